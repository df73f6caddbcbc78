"""Post-statistics batch-norm calibration (US-Nets, arXiv 1903.05134), exact and for many widths in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmmutual.layers import PooledStatistics, SlimBatchNorm2d, check_ratios, use_width

from .image_sides import fit_padding
from .rescale import rescale_as


@torch.no_grad()
def calibrate(
    model: nn.Module,
    batches: Iterable[dict],
    widths: Sequence[float] | None = None,
    scales: Sequence[float] = (1.0,),
) -> None:
    """Recompute the running statistics of a detector's slimmable batch norms, in place.

    Every batch is loaded once and runs at every width. The mean and variance of a norm are computed over all its inputs
    in all processes; these inputs come from layers that normalise by the batch, as in training. Parameters do not
    change. An error during the pass does not change statistics; a new width then stays without statistics.

    Args:
        model: A detector with slimmable batch norms.
        batches: Batches as a data loader yields them.
        widths: Widths to calibrate; new widths are added to the grid of the norms. Defaults to that grid.
        scales: Input scales; batch i runs at scale number i modulo their count.

    Raises:
        TypeError: If ``widths`` or ``scales`` are not numbers.
        ValueError: If they are out of range, if there is no batch, or if the model has no slimmable batch norm.
    """
    norms = norms_with_statistics(model)
    if not norms:
        raise ValueError(f'{type(model).__name__} has no slimmable batch norm, so there is nothing to calibrate')
    stride = fit_padding(model)
    grid = check_ratios(widths) if widths is not None else next(iter(norms.values())).widths
    scales = check_ratios(scales, 'scales')
    for norm in norms.values():
        for width in grid:
            norm.add_width(width)
    pooled = {width: {name: PooledStatistics() for name in norms} for width in grid}
    forward = _feature_forward(model, norms)
    was_training = model.training
    model.eval()
    try:
        for index, batch in enumerate(batches):
            data = model.data_preprocessor(batch, False)
            scale = scales[index % len(scales)]
            inputs, samples = rescale_as(
                model.data_preprocessor, data['inputs'], data['data_samples'], scale, norm_stride=stride
            )
            for width in grid:
                with use_width(model, width), _collecting(norms, pooled[width]):
                    forward(inputs, samples)
    finally:
        model.train(was_training)
    results = {(width, name): _finish(statistics, name) for width in grid for name, statistics in pooled[width].items()}
    for (width, name), (mean, var) in results.items():
        norms[name].set_statistics(width, mean, var)


def norms_with_statistics(model: nn.Module) -> dict[str, SlimBatchNorm2d]:
    """The slimmable batch norms of a model that keep statistics, by name.

    Args:
        model: Any model.

    Returns:
        The layers; empty for example for a model with group norms.
    """
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, SlimBatchNorm2d) and layer.track_running_stats
    }


@contextmanager
def kept_statistics(model: nn.Module) -> Iterator[None]:
    """Restore the batch-norm statistics of every width after a block.

    Args:
        model: Any model.

    Yields:
        Nothing.
    """
    norms = [layer for layer in model.modules() if isinstance(layer, SlimBatchNorm2d)]
    states = [{name: value.clone() for name, value in norm.state_dict().items()} for norm in norms]
    try:
        yield
    finally:
        for norm, state in zip(norms, states):
            norm.load_state_dict(state)


def _finish(statistics: PooledStatistics, name: str) -> tuple[Tensor, Tensor]:
    try:
        return statistics.finish()
    except ValueError as error:
        raise ValueError(f'cannot calibrate {name}: no batch reached it. Pass at least one batch of images') from error


def _feature_forward(model: nn.Module, norms: dict[str, SlimBatchNorm2d]) -> Callable:
    """The cheapest forward that reaches all norms: without the heads if they do not have slimmable batch norms."""
    if all(name.split('.')[0] in ('backbone', 'neck') for name in norms):
        return lambda inputs, samples: model.extract_feat(inputs)
    return lambda inputs, samples: model(inputs, samples, mode='tensor')


@contextmanager
def _collecting(norms: dict[str, SlimBatchNorm2d], pooled: dict[str, PooledStatistics]) -> Iterator[None]:
    for name, norm in norms.items():
        norm.pooled = pooled[name]
    try:
        yield
    finally:
        for norm in norms.values():
            norm.pooled = None
