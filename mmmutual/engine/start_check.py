"""Check model, hooks and loops before MMEngine creates folders or logs."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from mmengine.config import Config
from mmengine.registry import HOOKS
from torch import Tensor, nn

from mmmutual.config import build_model
from mmmutual.config.channel_check import check_colors
from mmmutual.config_tree import nested_dicts
from mmmutual.layers import check_ratios, evaluated_widths, use_width

from .hooks.calibration_hook import BNCalibrationHook
from .hooks.mutual_learning_hook import MutualLearningHook
from .norm_check import check_frozen_norms, check_statistics
from .processes import is_first_process


def check_model(
    config: Config | Mapping, splits: tuple[str, ...], checkpoint: Mapping | None = None
) -> nn.Module | None:
    """Build and check the model before a run creates folders and logs, in the first process of a distributed run.

    Args:
        config: As ``build_model``.
        splits: Those of ``'train'``, ``'val'`` and ``'test'`` that the run uses. Their images must have the channels of
            the model.
        checkpoint: The initial checkpoint as ``read_checkpoint`` returns it, if training starts from a local file.

    Returns:
        The model; None in the other processes of a distributed run.

    Raises:
        TypeError: As ``build_model``, or if widths or scales are not numbers.
        ValueError: As ``build_model``; if images have other channels than the model; if the model cannot be trained or
            evaluated at the widths or scales; or if a hook rejects the model.
    """
    if not is_first_process():
        return None
    model = build_model(config)
    evaluated = _check_loops(config, splits, model)
    check_colors(config, model, splits)
    if checkpoint:
        _load_fitting(model, checkpoint['state_dict'])  # it may have widths that are not in the config
    if 'train' in splits:
        known = bool(checkpoint) or not _starts_from_weights(config)
        _check_hooks(config, model, evaluated.get('val_cfg', ()), known)
    return model


def _check_hooks(config: Config | Mapping, model: nn.Module, evaluated: tuple[float, ...], known: bool) -> None:
    """Run the checks of this project's hooks now; MMEngine builds the hooks only after it has created the log.

    Checks that depend on weights are run if the model has the initial weights of the training (``known``). The widths
    of the validation are ``evaluated``.
    """
    hooks = [HOOKS.build(copy.deepcopy(settings)) for settings in config.get('custom_hooks') or [] if _is_own(settings)]
    mutual = next((hook for hook in hooks if isinstance(hook, MutualLearningHook)), None)
    if mutual is None:
        return
    mutual.check(model, config)
    if not known:
        return
    check_frozen_norms(model, mutual.sampler.widths)
    if (config.get('val_cfg') or {}).get('calibration_batches'):
        return
    calibrated = any(isinstance(hook, BNCalibrationHook) for hook in hooks)
    for width in evaluated:
        with use_width(model, width):  # raises now instead of after the first epoch
            pass
        if not calibrated and width not in mutual.sampler.widths:
            check_statistics(model, [width])


def _check_loops(config: Config | Mapping, splits: tuple[str, ...], model: nn.Module) -> dict[str, tuple[float, ...]]:
    """Check widths and scales of the loops over sub-networks; return the widths that each loop evaluates."""
    evaluated = {}
    for name in [f'{split}_cfg' for split in splits]:
        loop = config.get(name) or {}
        if loop.get('type') in ('SubnetValLoop', 'SubnetTestLoop'):
            check_ratios(loop.get('scales', (1.0,)), f'scales of {name}')
            widths, number = loop.get('widths'), loop.get('num_widths')
            evaluated[name] = evaluated_widths(model, widths, number, f'widths of {name}')
    return evaluated


def _is_own(settings: Mapping) -> bool:
    """Whether a hook belongs to this project."""
    kind = HOOKS.get(settings['type']) if isinstance(settings.get('type'), str) else settings.get('type')
    return kind is not None and kind.__module__.split('.')[0] == 'mmmutual'


def _starts_from_weights(config: Config | Mapping) -> bool:
    """Whether training starts from a checkpoint that only MMEngine reads."""
    parts = nested_dicts(config['model'])
    pretrained = any(part.get('type') == 'Pretrained' or part.get('pretrained') for part in parts)
    return bool(config.get('load_from')) or pretrained


def _load_fitting(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the weights whose shapes match; weights of a training with other classes do not all match."""
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name not in own or own[name].shape == value.shape}
    model.load_state_dict(fitting, strict=False)
