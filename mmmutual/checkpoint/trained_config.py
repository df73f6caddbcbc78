"""Which config a checkpoint was trained with: a mutual one under a stock config runs at its full width alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from mmmutual.config_tree import nested_dicts
from mmmutual.layers import Slimmable
from mmmutual.layers.batch_norm import widths_in

HOOK = 'MutualLearningHook'
SCOPES = ('backbone', 'detector')
NAMES = ('scope', 'slim')  # in the config of a detector; 'slim' before mmmutual 0.2


def check_mutual(model: nn.Module, checkpoint: Mapping, path: str | Path, config: str | None = None) -> None:
    """Check that a mutual checkpoint is not used with the stock config that it was made from.

    Args:
        model: The config's model.
        checkpoint: As ``read_checkpoint`` returns it.
        path: The checkpoint's file.
        config: The config's file or name, for the message.

    Raises:
        ValueError: If the checkpoint has narrow widths and the model does not slim, with the config to take.
    """
    if any(isinstance(layer, Slimmable) for layer in model.modules()) or not _is_mutual(checkpoint):
        return
    widths = ', '.join(f'{width:g}' for width in narrow_widths(checkpoint))
    raise ValueError(
        f'the checkpoint {path} was trained mutually{f", with the widths 1, {widths}" if widths else ""}, but '
        f'{config or "the config"} is a stock config, which has width 1.0 alone. {_advice(path, config)}'
    )


def check_scope(config: Mapping, checkpoint: Mapping, path: str | Path) -> None:
    """Check that a mutual run is resumed with the scope that it was started with.

    Args:
        config: The config to resume with.
        checkpoint: As ``read_checkpoint`` returns it.
        path: The checkpoint's file.

    Raises:
        ValueError: If the scopes differ.
    """
    text = str((checkpoint.get('meta') or {}).get('cfg', ''))
    if HOOK not in text:
        return
    before = SCOPES[any(f"{name}='detector'" in text for name in NAMES)]
    now = SCOPES[any(node.get(name) == 'detector' for node in nested_dicts(config['model']) for name in NAMES)]
    if before != now:
        raise ValueError(
            f'the run that wrote {path} has the scope {before!r}, but the config has the scope {now!r}: resume with '
            f'--mutual {before}, or with the config in its work dir'
        )


def narrow_widths(checkpoint: Mapping) -> list[float]:
    """The widths below 1.0 that a checkpoint has batch-norm statistics for, largest first."""
    state = checkpoint['state_dict']
    name = next((name for name in state if '.running_mean_at_' in name), None)
    return sorted(widths_in(state, name.rpartition('_at_')[0]), reverse=True) if name else []


def _is_mutual(checkpoint: Mapping) -> bool:
    """Whether it has statistics of narrow widths, or, without any batch norm, was trained with the hook."""
    meta = checkpoint.get('meta')
    return bool(narrow_widths(checkpoint)) or (isinstance(meta, Mapping) and HOOK in str(meta.get('cfg', '')))


def _advice(path: str | Path, config: str | None) -> str:
    """Which config to take: that in the checkpoint's folder, where a run leaves it."""
    found = [file for file in Path(path).absolute().parent.glob('*.py') if HOOK in file.read_text(errors='replace')]
    if found:
        newest = max(found, key=lambda file: file.stat().st_mtime)
        return f'Take the config that the training left beside it: {Path(path).parent / newest.name}'
    return (
        'Take the config that it was trained with; after tools/train.py --mutual it is in the work dir. Or make it: '
        f'python tools/misc/make_mutual_config.py {config or "CONFIG"} -o mutual.py'
    )
