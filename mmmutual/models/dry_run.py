"""Finds the layer that a narrow sub-network does not fit, before training does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmmutual.layers import PooledStatistics, SlimBatchNorm2d, use_width

SIZE = 64  # pixels


def check_narrow(model: nn.Module, width: float) -> None:
    """Run backbone and neck on a small image at a narrow width.

    Args:
        model: A detector or a backbone; it is left as it was, statistics included.
        width: One of the model's widths.

    Raises:
        ValueError: If the narrow network fails where the full one does not, with the name of the layer.
    """
    last: list[str] = []
    with _unchanged(model):
        handles = [
            layer.register_forward_pre_hook(lambda *_, name=name: last.append(name))
            for name, layer in model.named_modules()
        ]
        try:
            with use_width(model, 1.0):
                try:
                    _levels(model)
                except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError):
                    return  # it takes no plain image, so there is nothing to compare with
            with use_width(model, width):
                last.clear()
                _levels(model)
        except (RuntimeError, ValueError) as error:
            name = last[-1] if last else ''
            raise ValueError(
                f'{type(model).__name__} cannot slim: its layer {name} ({type(model.get_submodule(name)).__name__}) '
                f'does not take the channels of a network of width {width:g} ({str(error).splitlines()[0]})'
            ) from error
        finally:
            for handle in handles:
                handle.remove()


@torch.no_grad()
def _levels(model: nn.Module) -> tuple[Tensor, ...]:
    """The levels behind the backbone, or the neck if there is one, of a black image."""
    for module in model.modules():
        if isinstance(module, SlimBatchNorm2d):
            module.pooled = PooledStatistics()  # normalise by the batch, update nothing
    reference = next(model.parameters())
    images = reference.new_zeros(2, 3, SIZE, SIZE)
    run = getattr(model, 'extract_feat', model)
    return run(images)


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then the modes are restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
            if isinstance(module, SlimBatchNorm2d):
                module.pooled = None
