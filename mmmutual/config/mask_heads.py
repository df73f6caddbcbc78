"""Compare mask heads with the masks that the pipelines load and the evaluators evaluate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmmutual.datasets.dataset_config import dataset_uses
from mmmutual.datasets.evaluator_files import coco_metrics


def check_mask_heads(config: Mapping, splits: tuple[str, ...]) -> None:
    """Check that masks are loaded for a mask head, and that masks are evaluated only if the model predicts them.

    The check covers two-stage detectors, whose mask head is ``roi_head.mask_head``.

    Args:
        config: An MMDetection config.
        splits: Data loaders and evaluators to check.

    Raises:
        ValueError: If the training pipeline loads no masks for the head, or if a COCO metric evaluates masks of a model
            without a mask head.
    """
    roi_head = (config.get('model') or {}).get('roi_head')
    if not isinstance(roi_head, Mapping):
        return
    for name, problem in _problems(config, splits, _mentions_masks(roi_head), bool(roi_head.get('mask_head'))):
        raise ValueError(f'{name}: {problem}')


def _mentions_masks(roi_head: Mapping) -> bool:
    """Whether any part of a head has ``mask`` in its settings, for example under another name than ``mask_head``."""
    return 'mask' in str({key: value for key, value in roi_head.items() if value is not None}).lower()


def _problems(config: Mapping, splits: tuple[str, ...], predicts: bool, learns: bool) -> Iterator[tuple[str, str]]:
    for split in splits:
        for name, metric, _ in coco_metrics(config, split, []):
            kinds = metric.get('metric', 'bbox')
            if not predicts and 'segm' in ([kinds] if isinstance(kinds, str) else kinds):
                yield name, f"metric={kinds!r} evaluates masks, but model.roi_head has no mask_head. Set metric='bbox'"
        if split == 'train' and learns:
            for use in dataset_uses(config, split):
                if use.transforms and use.loads_objects and not use.loads_masks:
                    yield (
                        use.loader,
                        'model.roi_head.mask_head needs masks, but the pipeline loads none. Set with_mask=True '
                        "in LoadAnnotations, or mask_head=None in model.roi_head and metric='bbox' in the evaluators",
                    )
