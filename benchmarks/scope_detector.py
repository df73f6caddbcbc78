"""Compare the speed of the scopes `detector` and `backbone`: python benchmarks/scope_detector.py.

Slimmable and static detectors of all widths take turns in one process. Each slimmable detector is first compared with
the stock detector that is built narrow.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config

from mmmutual.deploy import largest_difference
from mmmutual.evaluation import device_name
from mmmutual.layers import set_width
from speed.inference import TOLERANCE, detection
from speed.networks import slimmable, static, without_pretraining
from speed.options import CONFIGS
from speed.table import Row, as_markdown, as_text
from speed.timing import ratios, take_turns

SCOPES = {'backbone': 'mutual_mask_rcnn_r50', 'detector': 'mutual_mask_rcnn_r50_detector'}
WIDTHS = (1.0, 0.75, 0.5, 0.25)
TARGET = 1.02


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Time Mask R-CNN R-50 in scope `backbone` and in scope `detector`')
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    parser.add_argument(
        '--size', nargs=2, type=int, default=(320, 512), metavar=('HEIGHT', 'WIDTH'), help='size of the image in pixels'
    )
    parser.add_argument('--scopes', nargs='+', choices=SCOPES, default=[*SCOPES], help='scopes; default: both')
    parser.add_argument(
        '--widths', nargs='+', type=float, default=WIDTHS, help='widths; times are relative to the first'
    )
    parser.add_argument('--rounds', type=int, default=7, help='number of timed rounds; default: 7')
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/scope_detector.json'), help='JSON file for all rounds'
    )
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    """Check, time and print."""
    args = parse_args()
    warnings.simplefilter('ignore')
    register_all_modules()
    image = torch.randn(1, 3, *args.size, device=args.device)
    calls = {}
    for scope in args.scopes:
        name = SCOPES[scope]
        config = without_pretraining(Config.fromfile(CONFIGS / f'{name}.py'))
        model = slimmable(config, 'cpu')
        for width in args.widths:
            stock = static(model, width, 'cpu')
            set_width(model, width)
            if (difference := largest_difference(model, stock)) > TOLERANCE:
                raise RuntimeError(f'{name} differs from the stock detector of width {width:g} by {difference:.1e}')
            calls[scope, width, 'static'] = detection(stock.to(args.device), image)
        calls.update({(scope, width, 'ours'): _at(model.to(args.device), width, image) for width in args.widths})
    times = take_turns(calls, args.rounds)
    rows = []
    for scope in args.scopes:
        for width in args.widths:
            ours, full = (scope, width, 'ours'), (scope, args.widths[0], 'ours')
            rows.append(Row(f'scope {scope}, width {width:g}', tuple(times[ours]), unit=' ms'))
            if width != args.widths[0]:
                rows.append(
                    Row(f'scope {scope}, width {width:g} over {args.widths[0]:g}', tuple(ratios(times, ours, full)))
                )
            over = tuple(ratios(times, ours, (scope, width, 'static')))
            rows.append(Row(f'scope {scope}, width {width:g} over static', over, target=TARGET))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps([row.as_dict() for row in rows], indent=1))
    print(as_text(rows))
    print(as_markdown(rows))
    device = device_name(torch.device(args.device))
    print(f'{device}, {torch.get_num_threads()} threads, {args.size[0]} x {args.size[1]} pixels')


def _at(model: torch.nn.Module, width: float, image: torch.Tensor):
    """Detection at a width; switching is part of the call, well under a millisecond."""
    detect = detection(model, image)

    def call() -> object:
        set_width(model, width)
        return detect()

    return call


if __name__ == '__main__':
    main()
