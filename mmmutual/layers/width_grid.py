"""The grid of widths that a model was built for, and the widths of it that are evaluated."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mmmutual.number_checks import check_whole

from .width import check_ratios, slimmable_layers


def width_grid(model: nn.Module) -> tuple[float, ...]:
    """The widths that a model was built for: those of its backbone, its ``SlimmableDetector`` or its norms.

    Widths that a loaded checkpoint or a calibration adds to the statistics of the norms are not part of it.

    Args:
        model: A model with slimmable layers, without a wrapper.

    Returns:
        The width multipliers in (0, 1], largest first.

    Raises:
        ValueError: If the model has no slimmable layer, or if none of its layers was built for a grid of widths.

    Examples:
        >>> import mmmutual
        >>> mmmutual.width_grid(mmmutual.SlimmableResNet(18, widths=(0.5, 1.0)))
        (1.0, 0.5)
    """
    for layer in slimmable_layers(model):
        if layer.declared_widths is not None:
            return layer.declared_widths
    raise ValueError(
        f'{type(model).__name__} declares no widths, since its slimmable layers were built one by one: pass widths, '
        'for example widths=(1.0, 0.75, 0.5, 0.25)'
    )


def evaluated_widths(
    model: nn.Module, widths: Sequence[float] | None = None, num_widths: int | None = None, name: str = 'widths'
) -> tuple[float, ...]:
    """The widths to evaluate a model at: the given ones, a number of widths of its grid, or the whole grid.

    Args:
        model: A model with slimmable layers, without a wrapper.
        widths: Width multipliers in (0, 1], in any order. They take precedence over ``num_widths``, which a config may
            have inherited.
        num_widths: Number of widths of the grid, at least 1: evenly spread, the widest and the narrowest among them;
            the widest only for 1, all if the grid has fewer.
        name: The name of the argument ``widths``, for the messages.

    Returns:
        The width multipliers, largest first.

    Raises:
        TypeError: If ``widths`` is not a list of numbers, or ``num_widths`` is not a whole number.
        ValueError: If an argument is out of range, or as ``width_grid`` if ``widths`` is None.
    """
    if num_widths is not None:
        num_widths = check_whole(num_widths, f'num_{name}', 1)
    if widths is not None:
        return check_ratios(widths, name)
    grid = width_grid(model)
    if num_widths is None or num_widths >= len(grid):
        return grid
    return tuple(grid[round(index * (len(grid) - 1) / max(1, num_widths - 1))] for index in range(num_widths))
