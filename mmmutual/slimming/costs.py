"""Multiply-adds of each layer on an image of COCO's size, from runs on small images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial

from torch import Tensor, nn

from mmmutual.tensor_tree import tensors_in

from .attention_costs import attends_to_all, attention_multiply_adds
from .dry_run import ERRORS, Run, bounded, smallest_size, untouched
from .roles import features, is_attention

PIXELS = 800 * 1333  # of a test image in mmdet's COCO configs
STRIDE = 32  # of the last stage of a transformer with windows
STEP = 64  # pixels that the second image has more on each side


def count_layers(model: nn.Module, layers: Iterable[nn.Module], runs: Sequence[Run]) -> dict[nn.Module, int]:
    """Multiply-adds of layers for an image of 800 x 1333 pixels.

    They grow with the image's area, with its square where all tokens attend to all, or do not depend on it, as those of
    queries. Layers that run on RoIs count as often
    as ``test_cfg`` allows proposals and, for masks, detections.

    Args:
        model: A detector or a backbone; it stays as it is.
        layers: Its layers.
        runs: Functions that run the model on an image of a size; the first that works is used.

    Returns:
        The numbers, with the products in attention, without other operations that have no weight; empty if no run
        works.
    """
    limits = {module: _most_rois(model, name) for name, module in model.named_modules()}
    with untouched(model):
        for run in runs:
            with suppress(*ERRORS):
                return _counted(model, list(layers), run, limits)
    return {}


def _counted(
    model: nn.Module, layers: Sequence[nn.Module], run: Run, limits: Mapping[nn.Module, int]
) -> dict[nn.Module, int]:
    size, step = smallest_size(run, model, lambda size: run(model, size)), STEP
    windows = [layer.window_size[0] for layer in layers if is_attention(layer) and hasattr(layer, 'window_size')]
    if windows:
        whole = STRIDE * max(windows)  # whole windows in each stage
        with suppress(*ERRORS):  # a model with position embeddings may accept images of one size only
            run(model, whole)
            size = step = whole
    small, batches = _count(layers, lambda: run(model, size))
    larger = [small] * 2
    with suppress(*ERRORS):  # some accept images of one size only
        larger = [_count(layers, partial(run, model, size + more * step))[0] for more in _steps(layers)]
    areas = [(size + more * step) ** 2 for more in range(3)]
    found = {}
    for layer, count in small.items():
        growth = (larger[0][layer] - count) / (areas[1] - areas[0])  # for each pixel
        if limits[layer] and (batches[layer] > 1 or growth <= 0):
            found[layer] = count * limits[layer] // batches[layer]
            continue
        found[layer] = round(count + max(growth, 0) * (PIXELS - areas[0]))
        if growth > 0 and attends_to_all(layer):
            later = (larger[-1][layer] - larger[0][layer]) / (areas[2] - areas[1])
            bend = (later - growth) / (areas[2] - areas[0])
            found[layer] += round(max(bend, 0) * (PIXELS - areas[0]) * (PIXELS - areas[1]))
    return found


def _steps(layers: Iterable[nn.Module]) -> range:
    """The larger images to run on: one, or two where the numbers of a layer are a square function of the area."""
    return range(1, 3 if any(map(attends_to_all, layers)) else 2)


def _count(layers: Iterable[nn.Module], run: Callable[[], object]) -> tuple[Counter[nn.Module], Counter[nn.Module]]:
    """Multiply-adds of each layer in a run on one image, and its largest batch: in a RoI head, the number of RoIs."""
    counts: Counter[nn.Module] = Counter()
    batches: Counter[nn.Module] = Counter()

    def note(layer: nn.Module, args: tuple, kwargs: dict, output: object) -> object:
        if is_attention(layer):
            counts[layer] += attention_multiply_adds(layer, features(layer, args, kwargs))
            batches[layer] = 1
            return bounded(output)
        given = output if isinstance(output, list) else [next(tensors_in(output))]  # a list: one for each branch
        taken = next(tensors_in(args), given[0])
        counts[layer] += sum(multiply_adds(layer, taken, each) for each in given)
        batches[layer] = max(batches[layer], 1, *taken.shape[:1])
        return bounded(output)

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_hook(note, with_kwargs=True).remove)
        run()
    return counts, batches


def multiply_adds(layer: nn.Module, taken: Tensor, given: Tensor) -> int:
    """The number of multiplications of a layer's weights with its input.

    Args:
        layer: Any layer.
        taken: Its input.
        given: Its output.

    Returns:
        The number, without operations that have no weight, as in attention.
    """
    if isinstance(layer, nn.ConvTranspose2d):
        return taken.numel() // layer.in_channels * layer.weight.numel()
    kernels = [weight for weight in layer.parameters() if weight.dim() > 1]
    if not kernels or not given.numel():
        return 0
    outputs = kernels[0].size(0) if kernels[0].dim() > 2 else given.size(-1)
    return given.numel() // outputs * sum(weight.numel() for weight in kernels)


def _most_rois(model: nn.Module, name: str) -> int:
    """The largest number of RoIs that a layer of a RoI head runs on, from ``test_cfg``; 0 for any other layer."""
    if not name.startswith('roi_head') or getattr(model, 'rpn_head', None) is None:
        return 0
    test_cfg = getattr(model, 'test_cfg', None) or {}
    return (test_cfg.get('rcnn' if 'mask' in name else 'rpn') or {}).get('max_per_img', 0)
