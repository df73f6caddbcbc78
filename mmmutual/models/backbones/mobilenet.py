"""MobileNetV1 (arXiv 1704.04861) and V2, slimmable, as in MutualNet's tables on ImageNet."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmdet.models.backbones import MobileNetV2
from mmdet.models.utils import make_divisible
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmutual.upstream import AnyBatchNorm

from .base import SlimmableBackbone


@MODELS.register_module()
class MobileNetV1(BaseModule):
    """MobileNet of depthwise separable convolutions, which mmdet lacks.

    Args:
        widen_factor: Factor on the channels of all layers.
        out_indices: The layers to output: 0 is the first convolution (stride 2), 1 to 5 the stages of depthwise
            separable convolutions (strides 2, 4, 8, 16, 32; 64, 128, 256, 512 and 1024 channels).
        frozen_stages: Layers up to this one get no gradient and keep their statistics; -1 is none.
        conv_cfg: The convolutions.
        norm_cfg: The norms.
        act_cfg: The activations.
        norm_eval: Whether batch norms keep their statistics in training.
        init_cfg: How to initialise the weights.

    Raises:
        ValueError: If ``out_indices`` or ``frozen_stages`` name a layer that does not exist.

    Examples:
        >>> [tuple(level.shape) for level in MobileNetV1()(torch.rand(1, 3, 64, 64))]
        [(1, 128, 16, 16), (1, 256, 8, 8), (1, 512, 4, 4), (1, 1024, 2, 2)]
    """

    STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))  # channels, blocks, first stride

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (2, 3, 4, 5),
        frozen_stages: int = -1,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),  # noqa: B006 (as in mmdet)
        act_cfg: dict = dict(type='ReLU6'),  # noqa: B006
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer=[AnyBatchNorm.__name__, 'GroupNorm']),
            ]
        super().__init__(init_cfg)
        self.layers = ['conv1', *(f'layer{index}' for index in range(1, len(self.STAGES) + 1))]
        last = len(self.STAGES)
        if not set(out_indices) <= set(range(last + 1)):
            raise ValueError(f'out_indices must be among 0 to {last}, but got {out_indices}')
        if frozen_stages not in range(-1, last + 1):
            raise ValueError(f'frozen_stages must be -1 to {last}, but got {frozen_stages}')
        self.out_indices, self.frozen_stages, self.norm_eval = out_indices, frozen_stages, norm_eval
        cfg = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        channels_in = make_divisible(32 * widen_factor, 8)
        self.conv1 = ConvModule(3, channels_in, 3, stride=2, padding=1, **cfg)
        for index, (channels, num_blocks, first_stride) in enumerate(self.STAGES, 1):
            channels_out = make_divisible(channels * widen_factor, 8)
            blocks = []
            for stride in (first_stride, *[1] * (num_blocks - 1)):
                blocks.append(DepthwiseSeparableConvModule(channels_in, channels_out, 3, stride, padding=1, **cfg))
                channels_in = channels_out
            self.add_module(f'layer{index}', nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps.

        Args:
            x: Images (N, 3, H, W).

        Returns:
            One (N, C, H', W') for each of ``out_indices``.
        """
        outs = []
        for index, name in enumerate(self.layers):
            x = getattr(self, name)(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def train(self, mode: bool = True) -> MobileNetV1:
        """Switch to training, except for the frozen layers."""
        super().train(mode)
        for name in self.layers[: self.frozen_stages + 1]:
            getattr(self, name).eval().requires_grad_(False)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, AnyBatchNorm):
                    module.eval()
        return self


@MODELS.register_module()
class SlimmableMobileNetV1(SlimmableBackbone, MobileNetV1):
    """MobileNetV1, slimmable: at width w it is ``MobileNetV1(widen_factor=w)`` with the first channels."""


@MODELS.register_module()
class SlimmableMobileNetV2(SlimmableBackbone, MobileNetV2):
    """mmdet's MobileNetV2, slimmable: at width w it is ``MobileNetV2(widen_factor=w)`` with the first channels.

    The inside of a block has 6 times the active channels of its input, and the last convolution has full outputs (1280
    channels), both as in the authors' code. Shortcuts are those of the full network; a narrow stock network has an
    additional one where rounding makes two numbers of channels equal.
    """
