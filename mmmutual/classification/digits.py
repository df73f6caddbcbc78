"""Handwritten digits: a real classification data set that is part of scikit-learn, without a download."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from mmmutual.number_checks import is_whole

SPLITS = ('train', 'test')
SIDE = 8  # pixels
LEVELS = 16  # the highest grey value


@DATASETS.register_module()
class DigitsDataset(BaseDataset):
    """The 1797 images of 8 x 8 pixels of scikit-learn's ``load_digits``, in the format of mmpretrain's pipelines.

    Every third image of each class is a test image, so the split never changes: 1201 images to train, 596 to test.

    Args:
        split: ``'train'`` or ``'test'``.
        size: Side in pixels of the images in the pipeline, enlarged by cubic interpolation.
        **kwargs: As MMEngine's ``BaseDataset``.

    Raises:
        ValueError: If ``split`` or ``size`` is not allowed.
        ImportError: If scikit-learn is not installed.
    """

    METAINFO: ClassVar = dict(classes=tuple('0123456789'))

    def __init__(self, split: str, size: int = 32, **kwargs: Any) -> None:
        if split not in SPLITS:
            raise ValueError(f'split must be one of {SPLITS}, but got {split!r}')
        if not is_whole(size, SIDE):
            raise ValueError(f'size must be a whole number of at least {SIDE} pixels, but got {size!r}')
        self.split, self.size = split, size
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Images (size, size, 3), uint8, with ``gt_label`` and ``sample_idx``."""
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ImportError('DigitsDataset needs scikit-learn: `pip install scikit-learn`') from error
        images, labels = load_digits(return_X_y=True)
        chosen = [index for label in range(10) for index in self._of_class(labels, label)]
        return [self._entry(images[index], labels[index]) for index in sorted(chosen)]

    def _of_class(self, labels: np.ndarray, label: int) -> np.ndarray:
        indices = np.flatnonzero(labels == label)
        is_test = np.arange(len(indices)) % 3 == 2
        return indices[is_test if self.split == 'test' else ~is_test]

    def _entry(self, image: np.ndarray, label: int) -> dict:
        image = np.round(image.reshape(SIDE, SIDE) * (255 / LEVELS)).astype(np.uint8)
        image = cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_CUBIC)
        shape = image.shape
        return dict(img=np.stack([image] * 3, axis=2), img_shape=shape, ori_shape=shape, gt_label=int(label))
