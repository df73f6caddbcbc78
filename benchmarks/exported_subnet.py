"""Latency of exported sub-networks against the dynamic ones: python benchmarks/exported_subnet.py.

A slimmable detector with random weights and the stock detectors cut out of it run in one process, in pairs whose order
alternates, after their outputs were compared. Timed is all before boxes are chosen (backbone, neck and dense head), or
with --whole the detector with its RoI heads.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from terminaltables import AsciiTable
from torch import nn

from mmmutual.deploy import DenseOutputs, largest_difference, narrow_state_dict, stock_config
from mmmutual.layers import SlimBatchNorm2d, use_width

CONFIG = Path(__file__).parents[1] / 'configs' / 'mutual_mask_rcnn_r50.py'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Time exported sub-networks against the dynamic ones')
    parser.add_argument('--config', default=str(CONFIG), help='config of a slimmable detector')
    parser.add_argument('--widths', nargs='+', type=float, default=[1.0, 0.75, 0.5, 0.25])
    parser.add_argument('--size', nargs=2, type=int, default=[608, 1024], metavar=('HEIGHT', 'WIDTH'), help='pixels')
    parser.add_argument('--pairs', type=int, default=10, help='timed pairs, after one that is not timed')
    parser.add_argument('--whole', action='store_true', help='time the whole detector')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    return parser.parse_args()


def random_detector(config: Config) -> nn.Module:
    """The slimmable detector with random weights, and with statistics at every width."""
    torch.manual_seed(0)
    model = MODELS.build(config.model).eval()
    for layer in model.modules():
        if isinstance(layer, SlimBatchNorm2d):
            for width in layer.widths:
                layer.set_statistics(width, torch.zeros(layer.num_features), torch.ones(layer.num_features))
    return model


def runner(detector: nn.Module, image: torch.Tensor, whole: bool) -> Callable[[], object]:
    """What is timed."""
    if not whole:
        dense = DenseOutputs(detector)
        return lambda: dense(image)
    size = tuple(image.shape[2:])
    sample = DetDataSample(metainfo=dict(img_id=0, img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    return lambda: detector.predict(image, [sample.clone()])


def time_pairs(first: Callable, second: Callable, pairs: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each call; the first pair warms up."""
    times: dict[Callable, list[float]] = {first: [], second: []}
    for index in range(pairs + 1):
        for call in (first, second) if index % 2 else (second, first):
            start = time.perf_counter()
            call()
            times[call].append((time.perf_counter() - start) * 1e3)
    return times[first][1:], times[second][1:]


def spread(times: list[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(times, n=4)
    return f'{middle:.1f} ({low:.1f} to {high:.1f})'


@torch.no_grad()
def main() -> None:
    """Compare, time, print a row for each width."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    register_all_modules(init_default_scope=True)
    config = Config.fromfile(args.config)
    model = random_detector(config)
    image = torch.randn(1, 3, *args.size)
    rows = [['width', 'parameters', 'weights', 'dynamic, ms', 'exported, ms', 'dynamic / exported', 'outputs']]
    for width in args.widths:
        detector = MODELS.build(stock_config(config, width).model).eval()
        state = narrow_state_dict(model, detector, width)
        detector.load_state_dict(state)
        with use_width(model, width):
            difference = largest_difference(model, detector)
            calls = [runner(each, image, args.whole) for each in (model, detector)]
            dynamic, exported = time_pairs(*calls, args.pairs)
        ratio = statistics.median(ours / theirs for ours, theirs in zip(dynamic, exported))
        megabytes = sum(value.numel() * value.element_size() for value in state.values()) / 1e6
        parameters = sum(parameter.numel() for parameter in detector.parameters()) / 1e6
        same = 'equal' if difference == 0 else f'{difference:.1e}'
        size = [f'{width:g}', f'{parameters:.1f} M', f'{megabytes:.0f} MB']
        rows.append([*size, spread(dynamic), spread(exported), f'{ratio:.2f}', same])
    part = 'whole detector' if args.whole else 'backbone, neck and dense head'
    print(f'{Path(args.config).stem}, {part}, 1 x 3 x {args.size[0]} x {args.size[1]}, {args.threads} threads')
    print(f'median (quartiles) of {args.pairs} alternating pairs')
    print(AsciiTable(rows).table)


if __name__ == '__main__':
    main()
