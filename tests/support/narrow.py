"""A stock network built narrow, carrying the first channels of a slimmable one's weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from mmmutual.layers import get_width

Parts = Mapping[str, tuple[int, int]]  # pattern of a name: equal parts along the outputs and along the inputs


def carry_weights(slim: nn.Module, narrow: nn.Module, parts: Parts | None = None) -> None:
    """Copy the active part of each parameter and statistic of ``slim``, at its width, into ``narrow``.

    Args:
        slim: The slimmable network.
        narrow: The stock network.
        parts: Layers that a concatenation divides: the first channels of each part are active.
    """
    key = f'_at_{get_width(slim):g}'.replace('.', '_')
    source, state = slim.state_dict(), {}
    for name, value in narrow.state_dict().items():
        own = f'{name}{key}'
        state[name] = first_channels(source[own if own in source else name], value.shape, _parts_of(name, parts))
    narrow.load_state_dict(state)


def first_channels(tensor: torch.Tensor, shape: torch.Size, parts: tuple[int, int] = (1, 1)) -> torch.Tensor:
    """The leading part of a tensor, of the given shape; of each part of its outputs and inputs."""
    for dim, (size, count) in enumerate(zip(shape, (*parts, *[1] * len(shape)))):
        chunks = [chunk.narrow(dim, 0, size // count) for chunk in tensor.chunk(count, dim)]
        tensor = torch.cat(chunks, dim)
    return tensor.clone()


def assert_same_gradients(slim: nn.Module, narrow: nn.Module, parts: Parts | None = None) -> None:
    """Each gradient of ``narrow`` is the leading part of that of ``slim``, and the rest of that is zero."""
    ours = dict(slim.named_parameters())
    for name, parameter in narrow.named_parameters():
        if parameter.grad is None:
            assert ours[name].grad is None, name
            continue
        grad = ours[name].grad
        scale = parameter.grad.abs().max().clamp(min=1e-12)
        part = first_channels(grad, parameter.shape, _parts_of(name, parts))
        torch.testing.assert_close(
            part / scale, parameter.grad / scale, atol=1e-4, rtol=1e-3, msg=lambda m: f'{name}: {m}'
        )
        torch.testing.assert_close(grad.abs().sum(), part.abs().sum(), msg=lambda m: f'{name} outside: {m}')


def _parts_of(name: str, parts: Parts | None) -> tuple[int, int]:
    return next((count for pattern, count in (parts or {}).items() if re.search(pattern, name)), (1, 1))
