"""Multiply-adds of each layer on an image of COCO's size, from what runs on two small images show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress

from torch import Tensor, nn

from .dry_run import ERRORS, PROPOSALS, Run, bounded, smallest_size, untouched
from .operations import tensors_in

PIXELS = 800 * 1333  # of a test image in mmdet's COCO configs
STEP = 64  # pixels that the second image has more on each side


def count_layers(model: nn.Module, layers: Iterable[nn.Module], runs: Sequence[Run]) -> dict[nn.Module, int]:
    """Multiply-adds of layers for an image of 800 x 1333 pixels.

    They grow with the image's area, or do not depend on it, as those of queries. Layers that run on RoIs count as often
    as ``test_cfg`` allows proposals and, for masks, detections.

    Args:
        model: A detector or a backbone; it stays as it is.
        layers: Its layers.
        runs: What runs the model on an image of a size; the first that works counts.

    Returns:
        The numbers, without those of what has no weight, as in attention; none if nothing runs.
    """
    rois = {module: _rois(model, name) for name, module in model.named_modules()}
    with untouched(model):
        for run in runs:
            with suppress(*ERRORS):
                return _counted(model, list(layers), run, rois)
    return {}


def _counted(
    model: nn.Module, layers: Sequence[nn.Module], run: Run, rois: Mapping[nn.Module, float]
) -> dict[nn.Module, int]:
    size = smallest_size(run, model, lambda size: run(model, size))
    small = large = _count(layers, lambda: run(model, size))
    with suppress(*ERRORS):  # some take images of one size only
        large = _count(layers, lambda: run(model, size + STEP))
    found = {}
    for layer, count in small.items():
        growth = (large[layer] - count) / ((size + STEP) ** 2 - size**2)  # for each pixel
        found[layer] = round(count + growth * (PIXELS - size**2)) if growth else round(count * rois[layer])
    return found


def _count(layers: Iterable[nn.Module], run: Callable[[], object]) -> Counter[nn.Module]:
    """Multiply-adds of each layer in a run."""
    counts: Counter[nn.Module] = Counter()

    def note(layer: nn.Module, args: tuple, output: object) -> object:
        given = next(tensors_in(output))
        counts[layer] += multiply_adds(layer, next(tensors_in(args), given), given)
        return bounded(output)

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_hook(note).remove)
        run()
    return counts


def multiply_adds(layer: nn.Module, taken: Tensor, given: Tensor) -> int:
    """The multiplications of a layer's weights with what it takes.

    Args:
        layer: Any layer.
        taken: Its input.
        given: Its output.

    Returns:
        Their number, without those of what has no weight, as in attention.
    """
    if isinstance(layer, nn.ConvTranspose2d):
        return taken.numel() // layer.in_channels * layer.weight.numel()
    kernels = [weight for weight in layer.parameters() if weight.dim() > 1]
    if isinstance(layer, nn.Embedding) or not kernels or not given.numel():
        return 0
    outputs = kernels[0].size(0) if kernels[0].dim() > 2 else given.size(-1)
    return given.numel() // outputs * sum(weight.numel() for weight in kernels)


def _rois(model: nn.Module, name: str) -> float:
    """On how many RoIs a layer of a RoI head runs, for each one that it has run on."""
    if not name.startswith('roi_head') or getattr(model, 'rpn_head', None) is None:
        return 1
    test_cfg = getattr(model, 'test_cfg', None) or {}
    stage = test_cfg.get('rcnn' if 'mask' in name else 'rpn') or {}
    return max(1, stage.get('max_per_img', PROPOSALS) / PROPOSALS)
