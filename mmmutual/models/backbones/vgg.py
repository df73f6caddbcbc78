"""Slimmable VGG, the backbone of MutualNet's detectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import VGG
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from mmmutual.layers import check_ratios
from mmmutual.slimming import plan_slimming


@MODELS.register_module()
class SlimmableVGG(VGG, BaseModule):
    """mmcv's VGG as a backbone whose layers run on the first of their channels.

    Parameter names are those of mmcv, mmdet and torchvision, so ``init_cfg=dict(type='Pretrained',
    checkpoint='torchvision://vgg16')`` loads (``vgg16_bn`` for ``with_bn=True``); the classifier is left out. A level
    ends with the pooling of its stage: strides 2 to 32.

    Args:
        depth: 11, 13, 16 or 19.
        widths: Width multipliers above 0 and at most 1 that batch norms keep statistics for, in any order.
        with_bn: Whether each convolution has a batch norm.
        out_indices: The stages to output, 0 to 4; by default those that an FPN reads (128, 256, 512, 512 channels).
        norm_eval: Whether batch norms keep their statistics in training.
        init_cfg: How to initialise the weights.
        **kwargs: All other arguments of mmcv's VGG, but not ``num_classes``.

    Raises:
        ValueError: If ``widths`` is invalid, or with ``num_classes``: its classifier needs all channels.

    Examples:
        >>> backbone = SlimmableVGG(11, widths=(1.0, 0.5))
        >>> mmmutual.set_width(backbone, 0.5)
        >>> [tuple(level.shape) for level in backbone(torch.rand(1, 3, 64, 64))]
        [(1, 64, 16, 16), (1, 128, 8, 8), (1, 256, 4, 4), (1, 256, 2, 2)]
    """

    def __init__(
        self,
        depth: int,
        widths: Sequence[float],
        with_bn: bool = False,
        out_indices: Sequence[int] = (1, 2, 3, 4),
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        widths = check_ratios(widths)
        if kwargs.get('num_classes', -1) > 0:
            raise ValueError(
                f'SlimmableVGG is a backbone without classifier: leave num_classes={kwargs["num_classes"]} out'
            )
        super().__init__(depth, with_bn=with_bn, out_indices=out_indices, bn_eval=norm_eval, **kwargs)
        self.widths = widths
        self.init_cfg = init_cfg or [
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='BatchNorm2d'),
        ]
        plan_slimming(self).apply_(widths)

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says, not as mmcv's VGG does."""
        BaseModule.init_weights(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps.

        Args:
            x: Images (N, 3, H, W).

        Returns:
            One (N, C, H', W') for each of ``out_indices``.
        """
        levels = super().forward(x)
        return levels if isinstance(levels, tuple) else (levels,)
