"""Whether the parts of a detector fit each other: at width 1.0 each layer gets the channels that it is built for.

A stock layer fails in the first iteration otherwise; a slimmable one could take fewer channels for those of a narrow
network, and leave the rest of its weights untrained.
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
    """A layer is built for another number of channels than it gets."""


def check_channels(model: nn.Module) -> None:
    """Check the layers of backbone, neck and heads, as far as they run on shapes alone.

    Args:
        model: A detector or a classifier; it stays as it is.

    Raises:
        ChannelMismatch: With the first layer that does not fit, and what to set.
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
    """Check that images are loaded and normalised with as many channels as the model takes.

    Args:
        config: An MMDetection config.
        model: Its model.
        splits: Which of the data loaders are used.

    Raises:
        ChannelMismatch: With the data loader, or the data preprocessor, and what to set.
    """
    expected = input_channels(model)
    cure = f'Set in_channels of the backbone (now {expected}), color_type of LoadImageFromFile and the mean alike'
    for split in splits:
        for node in nested_dicts(config.get(f'{split}_dataloader')):
            if str(node.get('type')).split('.')[-1] != 'LoadImageFromFile':
                continue
            color_type = node.get('color_type', 'color')
            loaded = {'grayscale': 1, 'color': 3, 'color_ignore_orientation': 3}.get(color_type, expected)
            if loaded != expected:
                raise ChannelMismatch(
                    f'{split}_dataloader: LoadImageFromFile loads images of {loaded} channels '
                    f'(color_type={color_type!r}), but the backbone takes {expected}. {cure}'
                )
    mean = getattr(getattr(model, 'data_preprocessor', None), 'mean', None)
    if mean is not None and len(mean) not in (1, expected):
        raise ChannelMismatch(
            f'the data preprocessor has a mean of {len(mean)} channels, but the backbone takes {expected}. {cure}'
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
    """Let each convolution and linear layer compare its input with what it is built for."""

    def compare(name: str, layer: nn.Module, args: tuple) -> None:
        convolves = hasattr(layer, 'in_channels')
        channels = args[0].size(1 if convolves else -1)
        expected = layer.in_channels if convolves else layer.in_features
        if channels == expected or (convolves and args[0].dim() != 4):
            return
        part = name.split('.')[0]
        kind = type(getattr(model, part)).__name__
        cure = f'in_channels of the {part} has to be what arrives'
        if part == 'neck' and levels:
            cure = f'the levels of the backbone have {list(levels)} channels: in_channels of the neck has to be these'
        raise ChannelMismatch(
            f'the {part} ({kind}) does not fit: its layer {name} is built for {expected} channels, but {channels} '
            f'arrive; {cure}'
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
    """Kinds of layers whose inputs do not change with the image's size: behind RoIs linear layers as well."""
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    return (*convolutions, nn.Linear) if name.startswith('roi_head') else convolutions
