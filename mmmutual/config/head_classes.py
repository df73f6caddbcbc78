"""Compare the classes of the heads with those of the data."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping

from mmdet.datasets import CocoDataset, CocoPanopticDataset, XMLDataset
from mmdet.registry import MODELS

from mmmutual.config_tree import place, walk
from mmmutual.datasets.dataset_config import DatasetUse, dataset_uses
from mmmutual.datasets.outlines import short

OTHER_CLASSES = (
    'rpn_head',
    'semantic_head',
    'backbone',
    'data_preprocessor',
    'train_cfg',
    'test_cfg',
    'language_model',
)


def check_head_classes(config: Mapping, splits: tuple[str, ...]) -> None:
    """Check that each head has as many classes as the data, and that all data have the same classes.

    A head with fewer classes would fail in its loss, a head with more in the evaluation. Heads whose classes differ by
    design (region proposals, semantic segmentation, open vocabularies) are not checked.

    Args:
        config: An MMDetection config.
        splits: Data loaders to check.

    Raises:
        ValueError: If a number differs, with the setting and both numbers, or if the classes of two data sets differ.
    """
    model = config.get('model')
    uses = [use for split in splits for use in dataset_uses(config, split) if _has_detection_classes(use)]
    classes = {id(use): names for use in uses if (names := _classes(use))}
    uses = [use for use in uses if id(use) in classes]
    if not uses or not isinstance(model, Mapping) or 'language_model' in model:  # whose classes are texts
        return
    first = uses[0]
    for use in uses[1:]:
        if classes[id(use)] != classes[id(first)]:
            raise ValueError(
                f'{use.loader} has the classes {short(list(classes[id(use)]))}, but {first.loader} has '
                f'{short(list(classes[id(first)]))}, so that a label would mean different classes. Set the same '
                'metainfo=dict(classes=...) in both'
            )
    number = len(classes[id(first)])
    wrong = [f'{path}={found}' for path, found in _numbers(model) if found != number]
    if wrong:
        raise ValueError(
            f'{", ".join(wrong)}, but the data set of {first.loader} has {number} classes '
            f'({", ".join(classes[id(first)][:5])}{", ..." if number > 5 else ""}). Set num_classes={number} in '
            'each of these heads'
        )


def _has_detection_classes(use: DatasetUse) -> bool:
    """Whether the classes of a data set are those that heads predict, not those of panoptic segmentation."""
    kind = use.kind
    return (
        kind is not None and issubclass(kind, (CocoDataset, XMLDataset)) and not issubclass(kind, CocoPanopticDataset)
    )


def _classes(use: DatasetUse) -> tuple[str, ...] | None:
    try:
        return use.classes
    except ValueError as error:
        raise ValueError(f'{use.loader}: {error}') from error


def _numbers(model: Mapping) -> Iterator[tuple[str, int]]:
    """The settings in a model's config with the number of classes, and the defaults of heads that do not set it."""
    for keys, part in walk(model, skip=OTHER_CLASSES, keys=('model',)):
        if not isinstance(part, Mapping):
            continue
        name = next(key for key in reversed(keys) if isinstance(key, str))
        things = part.get('num_things_classes')
        if isinstance(things, int):
            total = things + (part.get('num_stuff_classes') or 0)
            yield f'{place(keys)}.num_things_classes + num_stuff_classes', total
        elif isinstance(part.get('num_classes'), int):
            yield f'{place(keys)}.num_classes', part['num_classes']
        elif name.endswith('head') and (default := _default(part)) is not None:
            yield f'{place(keys)}.num_classes (default)', default


def _default(node: Mapping) -> int | None:
    """The default of ``num_classes`` of a head whose config does not set it."""
    kind = node.get('type')
    if isinstance(kind, str):
        try:
            kind = MODELS.get(kind)
        except (KeyError, ImportError):
            return None
    for owner in getattr(kind, '__mro__', ()):
        if '__init__' in vars(owner):
            parameter = inspect.signature(owner.__init__).parameters.get('num_classes')
            if parameter is not None:
                return parameter.default if isinstance(parameter.default, int) else None
    return None
