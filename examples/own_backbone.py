"""Make your own backbone slimmable inside a stock detector, without a line in mmmutual.

Usage::

    python examples/own_backbone.py

To train it, put the class into a module, name the module in `custom_imports` of a stock config that has this
backbone, and run `python tools/train.py YOUR_CONFIG --mutual detector`.
"""

from __future__ import annotations

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.model import BaseModule
from torch import Tensor, nn

import mmmutual
from mmmutual.config import build_model, load_config, make_mutual_with_plan

WIDTHS = (1.0, 0.75, 0.5, 0.25)
SCALES = (1.0, 0.75, 0.5)
CHANNELS = (32, 64, 128, 256)
IMAGE = (256, 256)


def conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """A convolution with batch norm and ReLU."""
    layers = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU()
    return nn.Sequential(*layers)


@MODELS.register_module()
class TwoBranches(BaseModule):
    """Four stages; each concatenates two branches and adds a shortcut. Nothing in it mentions widths."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.stem = conv(3, channels[0], stride=2)
        self.down = nn.ModuleList(conv(a, b, stride=2) for a, b in zip((channels[0], *channels), channels))
        self.left = nn.ModuleList(conv(count, count // 2) for count in channels)
        self.right = nn.ModuleList(nn.Sequential(conv(c, c // 2), conv(c // 2, c // 2)) for c in channels)
        self.join = nn.ModuleList(conv(count, count) for count in channels)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute one feature map (N, C, H', W') for each stage, at strides 4, 8, 16 and 32."""
        x, levels = self.stem(x), []
        for down, left, right, join in zip(self.down, self.left, self.right, self.join):
            x = down(x)
            x = x + join(torch.cat((left(x), right(x)), 1))
            levels.append(x)
        return tuple(levels)


def detector_config() -> Config:
    """MMDetection's RetinaNet with this backbone."""
    config = load_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    config.model.backbone = dict(type='TwoBranches', channels=CHANNELS)
    config.model.neck.in_channels = list(CHANNELS)
    return config


def main() -> None:
    """Plan, make mutual, and run the detector at each width."""
    config, plan = make_mutual_with_plan(detector_config(), WIDTHS, SCALES, 'detector')  # or 'backbone'
    print(plan)  # which layers are slimmable, and why the others are not

    detector = build_model(config)
    for width in WIDTHS:
        mmmutual.set_width(detector, width)
        cost = mmmutual.count_multiply_adds(detector, IMAGE)['total']
        with torch.no_grad():
            levels = detector.backbone(torch.rand(1, 3, *IMAGE))
        print(f'width {width}: {cost / 1e6:.0f} M multiply-adds, channels {[level.size(1) for level in levels]}')


if __name__ == '__main__':
    main()
