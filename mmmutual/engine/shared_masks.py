"""Bitmap masks that all passes of an iteration share, at any input scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmcv.ops import roi_align
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

Size = tuple[int, int]  # height, width in pixels


@dataclass(frozen=True)
class Rescaling:
    """A change of the size of an image in a padded frame.

    Args:
        old: The unpadded image before.
        new: The unpadded image afterwards.
        frame: The padded image afterwards.
        pad_value: Value of padded pixels of a mask.
    """

    old: Size
    new: Size
    frame: Size
    pad_value: int = 0

    @property
    def factor(self) -> tuple[float, float]:
        """The factors of width and height, in the order of mmdet's ``scale_factor``."""
        return self.new[1] / self.old[1], self.new[0] / self.old[0]


class FullSizeMasks:
    """The masks of an image at full size, which are moved to a device once.

    Args:
        masks: N masks; they are not copied.
    """

    def __init__(self, masks: BitmapMasks) -> None:
        self.masks = masks
        self._moved: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device | str) -> Tensor:
        """The masks (N, H, W) on a device, in memory that nobody may write to."""
        device = torch.device(device)
        if device not in self._moved:
            self._moved[device] = torch.from_numpy(self.masks.masks).to(device, non_blocking=True)
        return self._moved[device]


class SharedMasks(BitmapMasks):
    """Masks of an image at an input scale that share the memory of the masks at full size.

    Mask heads that crop, such as those of Mask R-CNN, crop from the masks at full size, with boxes of that size. The
    masks are neither copied nor resized, and what is cropped is exact. Anything else, such as ``masks``,
    ``to_tensor`` or ``pad``, makes resized masks at the first use; from then on this object is an ordinary
    ``BitmapMasks``, whose array may be changed.

    Args:
        full: The masks of the image at full size.
        rescaling: The change of the size; None keeps it.
        kept: (N,) indices of the masks; None for all.
    """

    def __init__(self, full: FullSizeMasks, rescaling: Rescaling | None = None, kept: np.ndarray | None = None) -> None:
        self.full = full
        self.rescaling = rescaling
        self.kept = kept
        self.height: int
        self.width: int
        self.height, self.width = rescaling.frame if rescaling else (full.masks.height, full.masks.width)
        self._made: np.ndarray | None = None

    @property
    def masks(self) -> np.ndarray:
        """The masks (N, H, W) at the scale, made at the first use. A pixel is set if half of its area was."""
        if self._made is None:
            self._made = self._make()
        return self._made

    @masks.setter
    def masks(self, masks: np.ndarray) -> None:
        self._made = masks

    def _make(self) -> np.ndarray:
        masks, change = self.full.masks.masks, self.rescaling
        masks = masks if self.kept is None else masks[self.kept]
        if change is None:
            return masks.copy()
        unpadded = BitmapMasks(masks[:, : change.old[0], : change.old[1]], *change.old)
        # Nearest-neighbour resizing, mmdet's default, would shift masks by 0.4 pixels and damage small objects.
        return unpadded.resize(change.new, interpolation='area').pad(change.frame, pad_val=change.pad_value).masks

    def rescaled(self, rescaling: Rescaling) -> SharedMasks:
        """These masks at another scale.

        Args:
            rescaling: The change of the size.

        Returns:
            Masks that share those of the full size, if these are at full size; else those of this size.
        """
        if self._made is None and self.rescaling is None:
            return SharedMasks(self.full, rescaling, self.kept)
        return SharedMasks(FullSizeMasks(BitmapMasks(self.masks, self.height, self.width)), rescaling)

    def crop_and_resize(
        self,
        bboxes: np.ndarray | Tensor,
        out_shape: Size,
        inds: np.ndarray | Tensor,
        device: torch.device | str = 'cpu',
        interpolation: str = 'bilinear',
        binarize: bool = True,
    ) -> BitmapMasks:
        """Crop masks by boxes from the full size, and resize what is cropped.

        Args:
            bboxes: (R, 4) x1, y1, x2, y2 in pixels of the scale.
            out_shape: Height and width of the results in pixels.
            inds: (R,) index of the mask of each box.
            device: The device to compute on.
            interpolation: As mmdet's, which does not use it.
            binarize: Whether a pixel is set or not; otherwise it is the share of its area that is set.

        Returns:
            R masks.
        """
        if self._made is not None:
            return super().crop_and_resize(bboxes, out_shape, inds, device, interpolation, binarize)
        if len(self) == 0 or len(bboxes) == 0:
            return BitmapMasks([], *out_shape)
        boxes, owners = torch.as_tensor(bboxes), torch.as_tensor(inds)
        used, owners = torch.unique(owners, return_inverse=True)
        rois = torch.cat([owners[:, None].to(boxes), boxes], 1)
        if self.rescaling is not None:
            rois[:, 1::2] /= self.rescaling.factor[0]
            rois[:, 2::2] /= self.rescaling.factor[1]
        if self.kept is not None:
            used = torch.from_numpy(self.kept).to(used.device)[used]
        masks = self.full.on(device)[used.to(device, non_blocking=True), None].to(rois.dtype)
        # The options are mmdet's, whose method would repeat the mask of full size for each of its boxes.
        cropped = roi_align(masks, rois.to(device, non_blocking=True), out_shape, 1.0, 0, 'avg', True).squeeze(1)
        return BitmapMasks((cropped >= 0.5 if binarize else cropped).cpu().numpy(), *out_shape)

    def __getitem__(self, index: Any) -> BitmapMasks:
        """Some of the masks; they share the same memory."""
        if self._made is not None:
            return super().__getitem__(index)
        kept = np.arange(len(self.full.masks)) if self.kept is None else self.kept
        return SharedMasks(self.full, self.rescaling, np.atleast_1d(kept[index]))

    def __len__(self) -> int:
        """Number of masks."""
        if self._made is not None:
            return len(self._made)
        return len(self.full.masks if self.kept is None else self.kept)

    def __repr__(self) -> str:
        """The number of masks and their size."""
        return f'SharedMasks(num_masks={len(self)}, height={self.height}, width={self.width})'

    def __deepcopy__(self, memo: dict) -> SharedMasks:
        """A copy that shares the masks of full size."""
        copied = SharedMasks(self.full, self.rescaling, self.kept)
        copied._made = None if self._made is None else self._made.copy()
        return copied

    @classmethod
    def cat(cls, masks: Sequence[BitmapMasks]) -> BitmapMasks:
        """Concatenate masks of one size.

        Args:
            masks: One or more.

        Returns:
            All of them, resized.
        """
        return BitmapMasks.cat(masks)


def shared(masks: BitmapMasks) -> SharedMasks:
    """Masks as passes share them.

    Args:
        masks: N masks at full size; they must not be changed afterwards.

    Returns:
        The same masks, which are copied where they are changed.
    """
    return masks if isinstance(masks, SharedMasks) else SharedMasks(FullSizeMasks(masks))


def share_masks_(data_samples: Sequence) -> Sequence:
    """Let the copies of a batch share its bitmap masks, in place.

    Args:
        data_samples: Data samples; anything else is left alone.

    Returns:
        The data samples.
    """
    instances = [value for sample in data_samples if isinstance(sample, BaseDataElement) for value in sample.values()]
    for each in instances:
        if isinstance(each, InstanceData) and isinstance(each.get('masks'), BitmapMasks):
            each.masks = shared(each.masks)
    return data_samples
