"""The data sets in a config: their files, their classes, and the data that their pipelines load."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmdet.datasets import BaseDetDataset, CocoDataset
from mmdet.registry import DATASETS
from mmengine.fileio import list_from_file

from mmmutual.config_tree import nested_dicts, type_name

from .image_files import ImageLoading
from .outlines import short


@dataclass(frozen=True)
class DatasetUse:
    """A data set in a data loader.

    Args:
        loader: Name of the loader, for example ``'train_dataloader'``.
        node: Config of the data set.
        transforms: Its transforms and those of the wrappers around it, including nested transforms.
        channels: Number of channels that the model expects, if the config states it.
    """

    loader: str
    node: Mapping
    transforms: tuple[Mapping, ...]
    channels: int | None = None

    @property
    def kind(self) -> Any:
        """Its class, if it is a data set of a detector."""
        return dataset_class(self.node)

    @property
    def trains(self) -> bool:
        """Whether it is in the training loader."""
        return self.loader.startswith('train')

    @property
    def is_local(self) -> bool:
        """Whether its files are on the local disk."""
        node = self.node
        texts = node.get('data_root') or '', node['ann_file'], *(node.get('data_prefix') or {}).values()
        is_local = (node.get('backend_args') or {}).get('backend', 'local') == 'local'
        return is_local and not any('://' in text for text in texts if isinstance(text, str))

    @property
    def annotations(self) -> str:
        """Path of the annotation file."""
        return self.path(self.node['ann_file'])

    @property
    def images(self) -> str:
        """Folder of the images of a ``CocoDataset``."""
        return self.path((self.node.get('data_prefix') or {}).get('img', ''))

    def path(self, name: str) -> str:
        """Join a path to the root of the data, unless it is absolute."""
        return os.path.join(self.node.get('data_root') or '', name)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes; None if the data set has none, or finds them itself."""
        return classes_of(self.node)

    @property
    def loads_objects(self) -> bool:
        """Whether objects are loaded; True if the config has no pipeline."""
        return not self.transforms or any('LoadAnnotations' in type_name(node) for node in self.transforms)

    @property
    def loads_masks(self) -> bool:
        """Whether the outlines of objects are loaded."""
        return any(node.get('with_mask') for node in self.transforms)

    @property
    def polygons_only(self) -> bool:
        """Whether masks that are not polygons are ignored."""
        return any(node.get('with_mask') and not node.get('poly2mask', True) for node in self.transforms)

    @property
    def loading(self) -> ImageLoading:
        """The way the pipeline loads images."""
        for node in self.transforms:
            if type_name(node) == 'LoadImageFromFile':
                backend = node.get('imdecode_backend', 'cv2')
                skips = bool(node.get('ignore_empty'))
                return ImageLoading(node.get('color_type', 'color'), backend, self.channels, skips)
        return ImageLoading()

    @property
    def filter_cfg(self) -> Mapping:
        """The filter that the data set applies, if any."""
        return {} if self.node.get('test_mode') else self.node.get('filter_cfg') or {}

    def is_stock(self, base: type, *methods: str) -> bool:
        """Whether the class inherits the methods of its base class unchanged."""
        return all(getattr(self.kind, method) is getattr(base, method) for method in methods)

    def extends(self, base: type, *methods: str) -> bool:
        """Whether the class inherits the methods of its base class, or overrides them and calls them."""
        return all(_calls_super(self.kind, base, method) for method in methods)

    @property
    def reads_coco(self) -> bool:
        """Whether it is a ``CocoDataset`` or a subclass that reads its file as ``CocoDataset`` does."""
        if self.kind is None or not issubclass(self.kind, CocoDataset):
            return False
        return self.kind.COCOAPI is CocoDataset.COCOAPI and self.extends(
            CocoDataset, 'load_data_list', 'parse_data_info'
        )

    @property
    def has_coco_entries(self) -> bool:
        """Whether it is a data set of mmdet that overrides the loading, but reads a file with the entries of COCO."""
        kind = self.kind
        if kind is None or not issubclass(kind, CocoDataset) or not kind.__module__.startswith('mmdet.'):
            return False
        names = kind.load_data_list.__code__.co_names  # the LVIS data set uses another reader
        return 'COCOAPI' in names and kind.COCOAPI is CocoDataset.COCOAPI


def dataset_uses(config: Mapping, split: str) -> Iterator[DatasetUse]:
    """All data sets with an annotation file in the data loader of a split, including those inside wrappers."""
    loader = f'{split}_dataloader'
    for node, transforms in _nodes(config.get(loader), ()):
        if isinstance(node.get('ann_file'), str) and node['ann_file']:
            yield DatasetUse(loader, node, transforms, _channels(config))


def dataset_nodes(config: Mapping, split: str) -> Iterator[Mapping]:
    """All configs in the data loader of a split except for pipelines."""
    return (node for node, _ in _nodes(config.get(f'{split}_dataloader'), ()))


def dataset_class(node: Mapping) -> type | None:
    """The class of a data set if it is a class of mmdet or derived from one."""
    kind = node.get('type')
    if isinstance(kind, str):
        try:
            kind = DATASETS.get(kind)
        except (KeyError, ImportError):  # its package is not installed
            return None
    return kind if isinstance(kind, type) and issubclass(kind, BaseDetDataset) else None


def classes_of(node: Mapping) -> tuple[str, ...] | None:
    """The class names of a data set.

    Args:
        node: Its config.

    Returns:
        The classes of its ``metainfo``, which may name a file with one class a line, or else those of its type.

    Raises:
        ValueError: If ``metainfo`` has a single text that is not a file, or has the key ``CLASSES`` of MMDetection 2.
    """
    metainfo = node.get('metainfo') or {}
    classes = metainfo.get('classes')
    if classes is None:
        if 'CLASSES' in metainfo:
            raise ValueError("metainfo has 'CLASSES', but MMDetection 3 reads metainfo=dict(classes=...)")
        classes = (getattr(dataset_class(node), 'METAINFO', None) or {}).get('classes')
    elif isinstance(classes, str):
        if not os.path.isfile(classes):
            raise ValueError(
                f'metainfo.classes is the text {classes!r}, whose letters would count as classes, and there is no file '
                f'of that name to read them from. For one class write ({classes!r},), with the comma'
            )
        classes = list_from_file(classes)
        if not all(name.strip() for name in classes):
            raise ValueError(f'the file of the classes, {metainfo["classes"]}, has a blank line: remove it')
    if classes is None:
        return None
    if not isinstance(classes, Sequence) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f'metainfo.classes should be a list of names, but is {short(classes)}')
    return tuple(classes)


def _nodes(node: object, transforms: tuple[Mapping, ...]) -> Iterator[tuple[Mapping, tuple[Mapping, ...]]]:
    """All configs in a nested one except for pipelines, each with the transforms of its pipeline and the outer ones."""
    # ``config_tree.walk`` passes nothing down, and a node needs the transforms of those around it.
    if isinstance(node, Mapping):
        transforms = (*nested_dicts(node.get('pipeline')), *transforms)
        yield node, transforms
        for key, value in node.items():
            if key != 'pipeline':
                yield from _nodes(value, transforms)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _nodes(value, transforms)


def _calls_super(kind: type, base: type, method: str) -> bool:
    for owner in kind.__mro__[: kind.__mro__.index(base)]:
        if method in vars(owner):
            code = getattr(vars(owner)[method], '__code__', None)
            if code is None or not {'super', method} <= set(code.co_names):
                return False
    return True


def _channels(config: Mapping) -> int | None:
    """Number of channels that the model expects, if the config states it."""
    model = config.get('model') or {}
    backbone = model.get('backbone')
    if isinstance(backbone, Mapping) and isinstance(backbone.get('in_channels'), int):
        return backbone['in_channels']
    preprocessor = model.get('data_preprocessor') or config.get('data_preprocessor') or {}
    mean = preprocessor.get('mean')
    return len(mean) if isinstance(mean, (list, tuple)) and len(mean) != 1 else None
