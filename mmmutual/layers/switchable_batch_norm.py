"""Switchable batch norm: per-width affine parameters, too (Slimmable Neural Networks, arXiv 1812.08928)."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmmutual.upstream import AnyBatchNorm

from .batch_norm import AFFINE, SlimBatchNorm2d, key_suffix, widths_in
from .width import check_ratio


@MODELS.register_module('SwitchableBN')
class SwitchableBatchNorm2d(SlimBatchNorm2d, nn.BatchNorm2d, AnyBatchNorm):
    """``SlimBatchNorm2d`` with separate weight and bias for each width.

    Width 1.0 owns the stock keys. Width 0.5 additionally has ``weight_at_0_5`` and ``bias_at_0_5``, (C,) each. If a
    checkpoint lacks those of a width, as one of a stock network does, they become copies of those of width 1.0.

    Args:
        num_features: Channels at full width.
        eps: Added to the variance.
        momentum: As ``nn.BatchNorm2d``.
        affine: As ``nn.BatchNorm2d``.
        track_running_stats: As ``nn.BatchNorm2d``.
        device: As ``nn.BatchNorm2d``.
        dtype: As ``nn.BatchNorm2d``.
        bias: As ``nn.BatchNorm2d``.
        widths: The grid of widths; 1.0 is always among them.

    Examples:
        >>> norm = SwitchableBatchNorm2d(64, widths=(1.0, 0.5))
        >>> [name for name, _ in norm.named_parameters()]
        ['weight', 'bias', 'weight_at_0_5', 'bias_at_0_5']
    """

    def add_width(self, width: float) -> None:
        """Raise ``ValueError`` for a new width: calibration finds statistics, but no weight and bias."""
        width = check_ratio(width)
        if width not in self.widths:
            raise ValueError(
                f'width {width:g} has no weight and bias: this SwitchableBN has them for the widths '
                f'{list(self.widths)}, and calibration finds statistics only. Use one of these, or add {width:g} to '
                '`widths` in the config before training'
            )

    def affine_parameters(self, width: float) -> tuple[Tensor | None, Tensor | None]:
        """Weight (C,) and bias (C,) of a width."""
        weight, bias = [getattr(self, name + key_suffix(width), None) for name in AFFINE]
        if not self.affine or not torch.is_grad_enabled() or get_world_size() == 1:
            return weight, bias
        # each width's parameters take part: distributed training waits for the gradient of every one
        zero = sum(parameter * 0 for parameter in self.parameters(recurse=False))
        return weight + zero, None if bias is None else bias + zero

    def operand_names(self, key: int) -> tuple[str, ...]:
        """The weight of the width."""
        return (AFFINE[0] + key_suffix(self.width),)

    def prepare_width(self, width: float) -> None:
        """Keep statistics, weight and bias for one more width, before it is trained."""
        if width in self.widths:
            return
        super().add_width(width)
        for name in AFFINE if self.affine else ():
            shared = getattr(self, name)
            if shared is None:
                continue
            own = nn.Parameter(shared.detach().clone(), requires_grad=shared.requires_grad)
            self.register_parameter(name + key_suffix(width), own)

    # as in SlimBatchNorm2d
    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        for name in ('weight', 'running_mean'):
            for width in widths_in(state_dict, prefix + name):
                self.prepare_width(width)
        for name in AFFINE:
            for width in self.widths if prefix + name in state_dict else ():
                key = prefix + name + key_suffix(width)
                if key not in state_dict:
                    state_dict[key] = state_dict[prefix + name].clone()  # assign=True would share one tensor
        super()._load_from_state_dict(state_dict, prefix, *args)
