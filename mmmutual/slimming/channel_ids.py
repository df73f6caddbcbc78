"""Channels by number: each channel that a layer writes has an id, and ids that must slim together are joined."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

ALWAYS = -1  # the id of a channel that is active at every width
ATTRIBUTE = '_channel_ids'  # of a tensor in a traced run


class ChannelIds:
    """The ids of all channels that layers write in a run: disjoint sets, and the reasons of those that never slim.

    Examples:
        >>> ids = ChannelIds()
        >>> first, second = ids.new(64), ids.new(64)
        >>> ids.join(first, second)  # as their tensors are added
        >>> ids.keep(first[:8], 'softmax mixes channels')
        True
        >>> int(ids.kept()[ids.find(second)].sum())
        8
    """

    def __init__(self) -> None:
        self._parent: np.ndarray = np.empty(0, np.int64)
        self._reason: np.ndarray = np.empty(0, np.int64)
        self._reasons: list[str] = ['']
        self.version = 0  # rises when sets change

    def __len__(self) -> int:
        return len(self._parent)

    def new(self, count: int) -> np.ndarray:
        """Ids (count,) of channels that a layer writes."""
        ids = np.arange(len(self), len(self) + count)
        self._parent = np.concatenate((self._parent, ids))
        self._reason = np.concatenate((self._reason, np.zeros(count, np.int64)))
        return ids

    def find(self, ids: np.ndarray) -> np.ndarray:
        """The id that stands for each one's set; ``ALWAYS`` stays."""
        if not len(self):
            return ids
        roots = np.where(ids < 0, ALWAYS, self._parent[ids])
        while True:
            further = np.where(roots < 0, ALWAYS, self._parent[roots])
            if np.array_equal(further, roots):
                return roots
            roots = further

    def join(self, first: np.ndarray, second: np.ndarray) -> None:
        """Let channels slim together, pair by pair; one that meets an ``ALWAYS`` never slims."""
        self.keep(first[second < 0], 'it meets channels that are always there')
        self.keep(second[first < 0], 'it meets channels that are always there')
        both = (first >= 0) & (second >= 0)
        first, second = first[both], second[both]
        while True:
            first, second = self.find(first), self.find(second)
            if np.array_equal(first, second):
                return
            self.version += 1
            np.minimum.at(self._parent, np.maximum(first, second), np.minimum(first, second))

    def keep(self, ids: np.ndarray, reason: str) -> bool:
        """Keep channels, and all that slim with them, active at every width.

        Args:
            ids: Any shape.
            reason: Why, as part of a sentence; the first one given stays.

        Returns:
            Whether one of them slimmed until now.
        """
        ids = ids[ids >= 0]
        new = self.find(ids)[~self.kept()[self.find(ids)]] if len(ids) else ids
        if not len(new):
            return False
        self.version += 1
        self._reasons.append(reason)
        self._reason[new] = len(self._reasons) - 1
        return True

    def kept(self) -> np.ndarray:
        """For each id that stands for a set whether that set never slims."""
        return self._by_set() > 0

    def reason(self, ids: np.ndarray) -> str:
        """Why channels never slim; empty if they do."""
        ids = ids[ids >= 0]
        found = self._by_set()[self.find(ids)]
        return self._reasons[found[found > 0][0]] if (found > 0).any() else ''

    def _by_set(self) -> np.ndarray:
        reasons = np.zeros(len(self), np.int64)
        np.maximum.at(reasons, self.find(np.arange(len(self))), self._reason)
        return reasons


def ids_of(tensor: Tensor) -> Tensor | None:
    """The ids of a tensor's elements, in its shape, or None if no layer that may slim wrote it."""
    return getattr(tensor, ATTRIBUTE, None)


def set_ids(tensor: Tensor, ids: Tensor | None) -> None:
    """Note the ids of a tensor's elements.

    Args:
        tensor: Any shape.
        ids: Of the same shape, or of one that expands to it; None forgets them.
    """
    if ids is not None and bool((ids >= 0).any()):
        setattr(tensor, ATTRIBUTE, compact(ids).expand(tensor.shape))
    elif hasattr(tensor, ATTRIBUTE):
        delattr(tensor, ATTRIBUTE)


def compact(ids: Tensor) -> Tensor:
    """Ids with size 1 along each dimension in which they do not change."""
    for dim in range(ids.dim()):
        if ids.size(dim) > 1:
            first = ids.narrow(dim, 0, 1)
            if ids.stride(dim) == 0 or torch.equal(ids, first.expand_as(ids)):
                ids = first
    return ids


def rows(tensor: Tensor, dim: int) -> np.ndarray:
    """The ids (R, C) of the channels along a dimension.

    Args:
        tensor: Any shape with C channels along ``dim``.
        dim: The channels' dimension.

    Returns:
        One row where they are the same everywhere else, as for a feature map; several where they differ, as for tokens
        of several levels. ``ALWAYS`` for a tensor without ids.
    """
    ids, channels = ids_of(tensor), tensor.size(dim)
    if ids is None:
        return np.full((1, channels), ALWAYS)
    ids = compact(ids).movedim(dim, -1)
    found = ids.reshape(-1, ids.size(-1)).cpu().numpy()
    found = found if len(found) == 1 else np.unique(found, axis=0)
    return np.tile(found, (1, channels)) if found.shape[1] == 1 else found


def spread(ids: np.ndarray, tensor: Tensor, dim: int) -> None:
    """Note the ids (C,) of a tensor's channels along a dimension."""
    if not (ids >= 0).any():
        set_ids(tensor, None)
        return
    shape = [1] * tensor.dim()
    shape[dim] = len(ids)
    device = 'cpu' if tensor.is_meta else tensor.device
    setattr(tensor, ATTRIBUTE, torch.as_tensor(ids, device=device).view(shape).expand(tensor.shape))


def values_of(ids: Tensor) -> np.ndarray:
    """The ids that occur in a tensor of ids."""
    return compact(ids).reshape(-1).cpu().numpy()


def combine(ids: ChannelIds, first: Tensor, second: Tensor) -> Tensor:
    """The ids of elements that come of one from each of two tensors of the same shape."""
    if first is second:
        return first
    shape = first.shape
    first, second = compact(first), compact(second)
    sizes = list(zip(first.shape, second.shape))
    first_is_wide, second_is_wide = all(a >= b for a, b in sizes), all(a <= b for a, b in sizes)
    if first_is_wide and second_is_wide:
        ids.join(values_of(first), values_of(second))
        return first.expand(shape)
    narrow, wide = (second, first) if first_is_wide else (first, second)
    if narrow.numel() > 1 and _are_tokens(narrow, wide):
        ids.join(*(each.expand(wide.shape).reshape(-1).cpu().numpy() for each in (narrow, wide)))
        return wide.expand(shape)
    for narrow, is_wide in ((first, first_is_wide), (second, second_is_wide)):
        if not is_wide:  # as the one channel of a gate, which all others need
            ids.keep(values_of(narrow), 'other channels need it, whichever are active')
    return (first if first_is_wide else second).expand(shape)


def _are_tokens(narrow: Tensor, wide: Tensor) -> bool:
    """Whether one row of channels, the last dimension, meets rows of tokens, such as class tokens and patches."""
    return narrow.numel() == narrow.size(-1) == wide.size(-1)
