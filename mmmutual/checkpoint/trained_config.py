"""Check that a config matches a checkpoint: a stock config would run a mutual checkpoint at width 1.0 only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from mmmutual.config.mutual_config import MUTUAL_HOOK
from mmmutual.config_tree import nested_dicts
from mmmutual.layers import Slimmable
from mmmutual.layers.batch_norm import widths_in
from mmmutual.slimming import SCOPES

NAMES = ('scope', 'slim')  # in the config of a detector; 'slim' before mmmutual 0.2


def check_mutual(model: nn.Module, checkpoint: Mapping, path: str | Path, config: str | None = None) -> None:
    """Check that a mutual checkpoint is not used with the stock config that it was made from.

    Args:
        model: The config's model.
        checkpoint: As ``read_checkpoint`` returns it.
        path: The checkpoint's file.
        config: The config's file or name, for the message.

    Raises:
        ValueError: If the checkpoint has narrow widths but the model is not slimmable, with the config to use.
    """
    if any(isinstance(layer, Slimmable) for layer in model.modules()) or not is_mutual(checkpoint):
        return
    widths = ', '.join(f'{width:g}' for width in narrow_widths(checkpoint))
    raise ValueError(
        f'the checkpoint {path} was trained mutually{f", with the widths 1, {widths}" if widths else ""}, but '
        f'{config or "the config"} is a stock config, which only has width 1.0. {_advice(path, config)}'
    )


def check_resumed_scope(config: Mapping, checkpoint: Mapping, path: str | Path) -> None:
    """Check that a mutual run is resumed with the scope that it was started with.

    Args:
        config: The config to resume with.
        checkpoint: As ``read_checkpoint`` returns it.
        path: The checkpoint's file.

    Raises:
        ValueError: If the scopes differ.
    """
    text = str((checkpoint.get('meta') or {}).get('cfg', ''))
    if MUTUAL_HOOK not in text:
        return
    before = SCOPES[any(f"{name}='detector'" in text for name in NAMES)]
    now = SCOPES[any(node.get(name) == 'detector' for node in nested_dicts(config['model']) for name in NAMES)]
    if before != now:
        raise ValueError(
            f'the run that wrote {path} has the scope {before!r}, but the config has the scope {now!r}: resume with '
            f'--mutual {before}, or with the config in its work dir'
        )


def narrow_widths(checkpoint: Mapping) -> list[float]:
    """The widths below 1.0 for which a checkpoint has batch-norm statistics, largest first."""
    state = checkpoint['state_dict']
    name = next((name for name in state if '.running_mean_at_' in name), None)
    return sorted(widths_in(state, name.rpartition('_at_')[0]), reverse=True) if name else []


def is_mutual(checkpoint: Mapping) -> bool:
    """Whether a checkpoint has statistics of narrow widths, or was trained mutually (a model without batch norms)."""
    meta = checkpoint.get('meta')
    return bool(narrow_widths(checkpoint)) or (isinstance(meta, Mapping) and MUTUAL_HOOK in str(meta.get('cfg', '')))


def _advice(path: str | Path, config: str | None) -> str:
    """The advice to use the config in the checkpoint's folder, where a run writes it, or to make one."""
    found = [
        file for file in Path(path).absolute().parent.glob('*.py') if MUTUAL_HOOK in file.read_text(errors='replace')
    ]
    if found:
        newest = max(found, key=lambda file: file.stat().st_mtime)
        return f'Use the config that the training wrote next to it: {Path(path).parent / newest.name}'
    return (
        'Use the config that it was trained with; tools/train.py --mutual writes it to the work dir. Or make one: '
        f'python tools/misc/make_mutual_config.py {config or "CONFIG"} -o mutual.py'
    )
