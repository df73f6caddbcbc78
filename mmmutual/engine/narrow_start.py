"""Warn that the narrow widths start untrained if training starts from the weights of a stock network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmengine.model import PretrainedInit
from mmengine.runner import Runner
from torch import nn

from mmmutual.layers import SlimBatchNorm2d, Slimmable
from mmmutual.slimming import is_ordered


def warn_of_stock_weights(runner: Runner, model: nn.Module, widths: Sequence[float]) -> None:
    """Log a warning if a training starts from weights without statistics for any of its narrow widths.

    Call it after the weights are loaded and before training starts. Weights that were trained at several widths have
    statistics for these widths. A network without slimmable batch norms has no such statistics, and causes no warning.

    Args:
        runner: The runner; its config names the checkpoint.
        model: Its model, without a wrapper.
        widths: Widths to train.
    """
    source = start_weights(runner, model)
    narrow = [width for width in widths if width < 1.0]
    if source is None or not narrow or is_ordered(model) or not any(map(_keeps_statistics, model.modules())):
        return
    runner.logger.warning(
        f'{source} only has batch-norm statistics for width 1.0, as the weights of a stock network: the widths '
        f'{", ".join(f"{width:g}" for width in narrow)} start from channels that were never trained to work without '
        'the others. Freeze nothing (norm_eval=False, frozen_stages=-1), order the channels with dict(type='
        "'ChannelOrderHook') in custom_hooks, or start from slimmable pretraining: docs/pretraining.md"
    )


def start_weights(runner: Runner, model: nn.Module) -> str | None:
    """The checkpoint that a training starts from: that of the config, else the first of the slimmable parts.

    Args:
        runner: The runner; its config names the checkpoint.
        model: Its model, without a wrapper.

    Returns:
        The file or address of the checkpoint; None if the weights are random.
    """
    return runner.cfg.get('load_from') or next(_initial_weights(model), None)


def _keeps_statistics(layer: nn.Module) -> bool:
    return isinstance(layer, SlimBatchNorm2d) and layer.track_running_stats


def _initial_weights(model: nn.Module) -> Iterator[str]:
    """Initial checkpoints of a model and of its slimmable parts, that of the model first."""
    for module in model.modules():
        configs = getattr(module, 'init_cfg', None) or []
        for config in [configs] if isinstance(configs, dict) else configs:
            pretrained = config.get('type') in ('Pretrained', PretrainedInit)
            if pretrained and any(isinstance(part, Slimmable) for part in module.modules()):
                yield config['checkpoint']
