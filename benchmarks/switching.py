"""How long it takes to switch to another sub-network: python benchmarks/switching.py [--device cuda]."""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import Config
from torch import nn

from mmmutual import set_width
from mmmutual.layers import SlimBatchNorm2d

SIZE = (3, 320, 320)  # of the image that is detected


def main() -> None:
    """Alternate between two widths; time the switch, the first call after it, and later calls."""
    parser = argparse.ArgumentParser(description='Time switching the width of a detector with random weights')
    parser.add_argument('--config', default='configs/mutual_mask_rcnn_r50.py')
    parser.add_argument('--widths', nargs=2, type=float, default=(1.0, 0.5))
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('--calls', type=int, default=3, help='calls after each switch')
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    register_all_modules(init_default_scope=True)
    config = Config.fromfile(args.config).model
    config.backbone.init_cfg = None
    model = MODELS.build(config).to(args.device).eval()
    pretend_calibrated(model)
    batch = demo_mm_inputs(1, image_shapes=[SIZE], with_mask=False)
    switches, calls = [], {width: [] for width in args.widths}
    for index in range(args.rounds + 1):
        for width in args.widths:
            switch = timed(lambda width=width: set_width(model, width))
            spent = [timed(lambda: detect(model, batch)) for _ in range(args.calls)]
            if index > 0:  # the first round warms up
                switches.append(switch)
                calls[width].append(spent)
    print(f'{args.config} on {args.device}, {torch.get_num_threads()} threads, input {SIZE[1]} x {SIZE[2]}')
    print(f'median (10th to 90th percentile) of {args.rounds} rounds, milliseconds')
    print(f'switching the width         {spread(switches)}')
    for width, spent in calls.items():
        times = np.array(spent)
        print(f'width {width:<4g} first call        {spread(times[:, 0])}')
        print(f'width {width:<4g} later calls       {spread(times[:, 1:].ravel())}')


def pretend_calibrated(model: nn.Module) -> None:
    """Mark the statistics of every width as ready: the time does not depend on their values."""
    for layer in model.modules():
        if isinstance(layer, SlimBatchNorm2d):
            for width in layer.widths:
                mean, var, _ = layer.statistics(width)
                layer.set_statistics(width, mean.clone(), var.clone())


@torch.no_grad()
def detect(model: nn.Module, batch: dict) -> None:
    """Run the detector on a batch."""
    model.test_step(batch)


def timed(function) -> float:
    """Milliseconds of one call; on a GPU until it has done its work."""
    synchronize()
    start = time.perf_counter()
    function()
    synchronize()
    return (time.perf_counter() - start) * 1e3


def synchronize() -> None:
    """Wait for the GPU, if one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def spread(values) -> str:
    """Median and spread as text."""
    low, middle, high = np.percentile(values, (10, 50, 90))
    return f'{middle:9.2f} ({low:.2f} to {high:.2f})'


if __name__ == '__main__':
    main()
