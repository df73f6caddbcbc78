"""Check that the parts of a detector match: at width 1.0 each layer receives the channels that it is built for.

If not, a stock layer fails in the first iteration. A slimmable layer could mistake fewer channels for those of a narrow
network, and would leave the rest of its weights untrained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from mmmutual.config_tree import nested_dicts
from mmmutual.layers import Slimmable, use_width
from mmmutual.slimming import input_channels
from mmmutual.slimming.meta_run import meta_copy, run_on_meta
from mmmutual.tensor_tree import tensors_in

SIZE = (128, 128)  # pixels; nothing is computed


class ChannelMismatch(ValueError):
    """A layer is built for another number of channels than it receives."""


def check_channels(model: nn.Module) -> None:
    """Check the layers of backbone, neck and heads, if they run on shapes without data.

    Args:
        model: A detector or a classifier; it does not change.

    Raises:
        ChannelMismatch: If a layer does not match, with the first such layer and the setting to change.
    """
    meta = meta_copy(model)
    levels: list[int] = []

    def run(part: str, function: Callable, *args: Any) -> Any:
        result = function(*args)
        if part == 'backbone':
            levels.extend(level.size(1) for level in tensors_in(result) if level.dim() == 4)
        return result

    try:
        with _full_width(meta), _watching(meta, levels):
            run_on_meta(meta, SIZE, run)
    except ChannelMismatch:
        raise
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return  # a part needs more than shapes, for example a transformer's head


def check_colors(config: Mapping, model: nn.Module, splits: Sequence[str] = ('train', 'val', 'test')) -> None:
    """Check that images are loaded and normalised with as many channels as the model expects.

    Args:
        config: An MMDetection config.
        model: Its model.
        splits: Data loaders to check.

    Raises:
        ChannelMismatch: If the numbers differ, with the data loader or data preprocessor and the settings to change.
    """
    expected = input_channels(model)
    cure = (
        f'Set in_channels of the backbone (now {expected}), color_type of LoadImageFromFile and the mean to the same '
        'number of channels'
    )
    for split in splits:
        for node in nested_dicts(config.get(f'{split}_dataloader')):
            if str(node.get('type')).split('.')[-1] != 'LoadImageFromFile':
                continue
            color_type = node.get('color_type', 'color')
            loaded = {'grayscale': 1, 'color': 3, 'color_ignore_orientation': 3}.get(color_type, expected)
            if loaded != expected:
                raise ChannelMismatch(
                    f'{split}_dataloader: LoadImageFromFile loads images of {loaded} channels '
                    f'(color_type={color_type!r}), but the backbone expects {expected}. {cure}'
                )
    mean = getattr(getattr(model, 'data_preprocessor', None), 'mean', None)
    if mean is not None and len(mean) not in (1, expected):
        raise ChannelMismatch(
            f'the data preprocessor has a mean of {len(mean)} channels, but the backbone expects {expected}. {cure}'
        )


@contextmanager
def _full_width(model: nn.Module) -> Iterator[None]:
    if any(isinstance(layer, Slimmable) for layer in model.modules()):
        with use_width(model, 1.0):
            yield
    else:
        yield


@contextmanager
def _watching(model: nn.Module, levels: Sequence[int]) -> Iterator[None]:
    """Let each convolution and linear layer compare the channels of its input with those that it is built for."""

    def compare(name: str, layer: nn.Module, args: tuple) -> None:
        convolves = hasattr(layer, 'in_channels')
        channels = args[0].size(1 if convolves else -1)
        expected = layer.in_channels if convolves else layer.in_features
        if channels == expected or (convolves and args[0].dim() != 4):
            return
        part = name.split('.')[0]
        kind = type(getattr(model, part)).__name__
        cure = f'Set in_channels of the {part} to the channels of its input'
        if part == 'neck' and levels:
            cure = f'The levels of the backbone have {list(levels)} channels: set in_channels of the neck to these'
        raise ChannelMismatch(
            f'the {part} ({kind}) does not match: its layer {name} is built for {expected} channels, but receives '
            f'{channels}. {cure}'
        )

    handles = [
        layer.register_forward_pre_hook(lambda layer, args, name=name: compare(name, layer, args))
        for name, layer in model.named_modules()
        if not name.startswith('backbone') and isinstance(layer, _comparable(name))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _comparable(name: str) -> tuple[type[nn.Module], ...]:
    """Kinds of layers whose channels do not depend on the size of the image; they include linear layers after RoIs."""
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    return (*convolutions, nn.Linear) if name.startswith('roi_head') else convolutions
