"""Slimmable batch norm: shared affine parameters, and separate running statistics for each width.

Switchable statistics come from Slimmable Neural Networks (arXiv 1812.08928), shared affine parameters and
post-statistics calibration from US-Nets (arXiv 1903.05134), which MutualNet follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmmutual.upstream import AnyBatchNorm, check_dimensions

from .forward import slimmable_forward
from .frozen import operands_of
from .inputs import channel_count, check_input
from .segments import Segment, check_segments, put, take
from .statistics import PooledStatistics
from .width import Slimmable, check_ratio, check_ratios

AFFINE = ('weight', 'bias')
STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')


@MODELS.register_module('SlimBN')
class SlimBatchNorm2d(Slimmable, nn.BatchNorm2d, AnyBatchNorm):  # MMEngine initialises by the names of direct bases
    """A batch norm over the first of its channels, with running statistics for each of a grid of widths.

    Width 1.0 owns the stock buffers, so a stock checkpoint loads and is written unchanged. A narrower width, such as
    0.5, additionally has ``running_mean_at_0_5`` and ``running_var_at_0_5``, (C,) each, and
    ``num_batches_tracked_at_0_5``. C is the full number of channels, because a norm behind a shared neck processes all
    of them at every width. Widths of a loaded checkpoint are added to the grid. Widths without statistics in the
    checkpoint have to be calibrated.

    Args:
        num_features: Channels at full width.
        eps: Added to the variance.
        momentum: As ``nn.BatchNorm2d``.
        affine: As ``nn.BatchNorm2d``.
        track_running_stats: As ``nn.BatchNorm2d``.
        device: As ``nn.BatchNorm2d``.
        dtype: As ``nn.BatchNorm2d``.
        bias: As ``nn.BatchNorm2d``.
        widths: The grid of widths to keep statistics for; 1.0 is always among them.

    Raises:
        ValueError: In ``forward``, if a width without statistics is used for inference.
    """

    _abbr_ = 'bn'

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        widths: Sequence[float] = (1.0,),
    ) -> None:
        self.set_up()
        without_bias = {} if bias else dict(bias=False)  # older versions of torch have no such argument
        options = (momentum, affine, track_running_stats, device, dtype)
        super().__init__(num_features, eps, *options, **without_bias)
        self.declared_widths = check_ratios(widths)
        for width in self.declared_widths:
            self.prepare_width(width)

    def set_up(self) -> None:
        """Add what a stock layer lacks, in place."""
        self.widths: tuple[float, ...] = (1.0,)
        self._known_ready: dict[float, bool] = {}  # no set: torch.compile would guard all of it, not one width
        self.segments: tuple[Segment, ...] | None = None
        self.pooled: PooledStatistics | None = None

    def divide(self, segments: Sequence[Segment]) -> None:
        """Set the segments of the channels, as those of the convolution before it.

        Args:
            segments: Segments that make up ``num_features``.

        Raises:
            ValueError: If they do not add up.
        """
        self.segments = check_segments(segments, self.num_features, str(self))

    def add_width(self, width: float) -> None:
        """Keep statistics for one more width; train or calibrate them before inference."""
        width = check_ratio(width)
        if width in self.widths:
            return
        if self.track_running_stats:
            for name in STATISTICS:
                self.register_buffer(name + key_suffix(width), torch.zeros_like(getattr(self, name)))
            getattr(self, f'running_var{key_suffix(width)}').fill_(1)
        self.widths = tuple(sorted((*self.widths, width), reverse=True))

    def prepare_width(self, width: float) -> None:
        """Keep all that training needs for one more width."""
        self.add_width(width)

    def drop_width(self, width: float) -> None:
        """Drop a width other than 1.0, with its parameters and buffers."""
        for name in (*AFFINE, *STATISTICS):
            if hasattr(self, name + key_suffix(width)):
                delattr(self, name + key_suffix(width))
        self._known_ready.pop(width, None)
        self.widths = tuple(each for each in self.widths if each != width)

    def check_width(self, width: float) -> None:
        """Raise ``ValueError`` for a width outside the grid."""
        if width not in self.widths:
            raise ValueError(
                f'width {width} has no batch-norm statistics: this model keeps them for the widths '
                f'{list(self.widths)}. Use one of these, add {width} to `widths` in the config before training, or '
                f'calibrate a checkpoint for it with tools/misc/calibrate.py --widths {width}'
            )
        self.is_ready(width)  # known from here on, so that torch.compile need not break its graph to read a buffer

    def statistics(self, width: float) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Running mean (C,), running variance (C,) and number of batches () of a width."""
        suffix = key_suffix(width)
        mean, var, tracked = [getattr(self, name + suffix, None) for name in STATISTICS]
        return mean, var, tracked

    def affine_parameters(self, width: float) -> tuple[Tensor | None, Tensor | None]:
        """Weight (C,) and bias (C,) of a width; here all widths share them."""
        return self.weight, self.bias

    @torch.no_grad()
    def set_statistics(self, width: float, mean: Tensor, var: Tensor) -> None:
        """Replace the running statistics of a width by calibrated ones.

        Args:
            width: One of ``widths``.
            mean: (K,), K the active channels.
            var: (K,), unbiased.
        """
        running_mean, running_var, tracked = self.statistics(width)
        assert running_mean is not None and running_var is not None and tracked is not None
        self._write(running_mean, mean, width)
        self._write(running_var, var, width)
        tracked.fill_(1)
        self.forget_kept()

    def _write(self, buffer: Tensor, values: Tensor, width: float) -> None:
        """Write the values of the active channels (K,) into a buffer (C,)."""
        if self.segments is None or values.numel() == self.num_features:
            buffer[: values.numel()].copy_(values)
        else:
            put(buffer, values, self.segments, width)

    def is_ready(self, width: float) -> bool:
        """Whether a width has statistics that were trained, calibrated or loaded."""
        if width == 1.0 or not self.track_running_stats or width in self._known_ready:
            return True  # as the stock layer: width 1.0 may always be used
        tracked = self.statistics(width)[2]
        if tracked is None or tracked.is_meta:
            return True
        if tracked.item() > 0:
            self._known_ready[width] = True  # reading the buffer stops the GPU, so do it once
        return width in self._known_ready

    @slimmable_forward
    def forward(self, x: Tensor) -> Tensor:
        """Normalise the active channels.

        Args:
            x: (N, C, H, W) with C at most ``num_features``.

        Returns:
            (N, C, H, W).

        Raises:
            ValueError: If C is more than ``num_features``, less at width 1.0, or not the active part of the segments,
                or in evaluation mode if the width has no statistics.
        """
        check_dimensions(self, x)
        if not self.training and self.pooled is None:
            mean, var, weight, bias = operands_of(self, x.shape[1])
            return F.batch_norm(x, mean, var, weight, bias, mean is None, 0.0, self.eps)
        mean, var, weight, bias = self._active_parts(channel_count(x, 1))
        if self.pooled is not None:
            self.pooled.update(x)
            return F.batch_norm(x, None, None, weight, bias, True, 0.0, self.eps)
        statistics = self.statistics(self.width)
        self.forget_kept()
        momentum = self.momentum
        tracked = statistics[2]
        if tracked is not None:
            tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / float(tracked)
        out = self._normalize(x, mean, var, weight, bias, momentum or 0.0)
        if mean is not statistics[0] and len(self.segments or ()) > 1:  # copies were updated, not the buffers
            self._write(statistics[0], mean, self.width)
            self._write(statistics[1], var, self.width)
        return out

    def active_operands(self, key: int) -> tuple[Tensor | None, ...]:
        """Active running mean, running variance, weight and bias, of a width that has statistics."""
        parts = self._active_parts(key)
        self.check_ready()
        return parts

    def operand_names(self, key: int) -> tuple[str, ...]:
        """The weight, which changes with the bias; the layer itself changes the statistics."""
        return AFFINE[:1]

    def _active_parts(self, channels: int) -> tuple[Tensor | None, ...]:
        if channels > self.num_features or self.width == 1.0 or self.segments is not None:
            check_input(self, channels, self.num_features, self.segments)
        parts = (*self.statistics(self.width)[:2], *self.affine_parameters(self.width))
        if channels == self.num_features:
            return parts
        return tuple(self.active_part(part, channels) for part in parts)

    def active_part(self, tensor: Tensor | None, channels: int) -> Tensor | None:
        """The part (C,) of a parameter or buffer for an input with C of its channels."""
        if tensor is None:
            return None
        if self.segments is None:
            return tensor[:channels]
        return take(tensor, self.segments, self.width)

    def _normalize(
        self, x: Tensor, mean: Tensor | None, var: Tensor | None, weight: Tensor, bias: Tensor, momentum: float
    ) -> Tensor:
        """Normalise by the batch's statistics and update the running ones in place."""
        return F.batch_norm(x, mean, var, weight, bias, True, momentum, self.eps)

    def check_ready(self) -> None:
        """Raise ``ValueError`` if the active width has no statistics to evaluate with."""
        if not self.is_ready(self.width):
            raise ValueError(
                f'width {self.width} has no batch-norm statistics yet: they exist for '
                f'{[width for width in self.widths if self.is_ready(width)]}. Train at this width with '
                f'norm_eval=False, or calibrate the checkpoint with tools/misc/calibrate.py --widths {self.width}'
            )

    def reset_running_stats(self) -> None:
        """Reset the statistics of the active width, as torch's ``update_bn`` does before it computes them again."""
        self._forget((self.width,))

    def reset_parameters(self) -> None:
        """Reset weight and bias as in the stock layer, and the statistics of all widths."""
        super().reset_parameters()
        self._forget(self.widths)

    def _forget(self, widths: Sequence[float]) -> None:
        self.forget_kept()
        for width in widths:
            vars(self).get('_known_ready', {}).pop(width, None)  # torch's constructor resets too
            for buffer, initial in zip(self.statistics(width), (0, 1, 0)):
                if buffer is not None:
                    buffer.fill_(initial)

    # torch's hook for how a module loads its own tensors: the public load_state_dict is not called on submodules
    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, local_metadata: dict, strict: bool, missing_keys: list[str], *args: Any
    ) -> None:
        for width in widths_in(state_dict, f'{prefix}running_mean'):
            self.add_width(width)
        self._known_ready = {}
        self.forget_kept()
        missing: list[str] = []
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, *args)
        buffers = dict(self.named_buffers(recurse=False))
        absent = [key for key in missing if '_at_' in key[len(prefix) :] and key[len(prefix) :] in buffers]
        for key in absent:  # not missing, but to be calibrated: other weights make old statistics wrong
            name = key[len(prefix) :]
            like = getattr(self, name.partition('_at_')[0])
            if getattr(self, name).is_meta and not like.is_meta:  # loaded with assign=True into a model without memory
                setattr(self, name, torch.empty_like(like))
            getattr(self, name).fill_(1 if 'running_var' in name else 0)
        missing_keys.extend(key for key in missing if key not in absent)

    def extra_repr(self) -> str:
        """Add the grid of widths."""
        return f'{super().extra_repr()}, widths={self.widths}'


def key_suffix(width: float) -> str:
    """The suffix of the names of a width's buffers."""
    return '' if width == 1.0 else f'_at_{width:g}'.replace('.', '_')


def widths_in(state_dict: Mapping[str, Tensor], key: str) -> list[float]:
    """The narrow widths with a separate tensor ``key`` in a state dict."""
    start = f'{key}_at_'
    return [float(name[len(start) :].replace('_', '.')) for name in state_dict if name.startswith(start)]
