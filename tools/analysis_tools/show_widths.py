"""Draw the detections of each width side by side: python tools/analysis_tools/show_widths.py CONFIG CHECKPOINT."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from torch import nn

from mmmutual.checkpoint import load_model
from mmmutual.config import config_name, load_config, nominal_size, scale_pipeline
from mmmutual.engine import Subnet, clear_errors, prepare
from mmmutual.engine.image_sides import fit_padding
from mmmutual.evaluation import count_multiply_adds, format_count
from mmmutual.evaluation.plotting import show_widths
from mmmutual.layers import check_ratios, evaluated_widths, use_width


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Draw test images with the detections of each width side by side')
    parser.add_argument('config', help='config file, or mmdet::NAME for a config of mmdet')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('-o', '--out', help='the picture; default: work_dirs/NAME_OF_CONFIG/widths.png')
    parser.add_argument('--widths', nargs='+', type=float, help='width multipliers; default: as test_cfg')
    parser.add_argument('--scales', nargs='+', type=float, default=[1.0], help='input scales; default: 1.0')
    parser.add_argument(
        '--images', nargs='+', type=int, default=[0, 1, 2, 3], help='indices of test images; default: 0 1 2 3'
    )
    parser.add_argument('--score-thr', type=float, default=0.5, help='hide detections below this score; default: 0.5')
    parser.add_argument('--no-labels', action='store_true', help='draw no scores at the boxes')
    parser.add_argument(
        '--results',
        metavar='subnets.json',
        type=Path,
        help='subnets.json of tools/test.py, to write mAP into the titles',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='override settings of the config'
    )
    return parser.parse_args()


def load_images(config: Config, indices: Sequence[int], scale: float) -> tuple[list[dict], dict]:
    """Batches of one test image each, and the data set's metainfo."""
    loader = Runner.build_dataloader({**scale_pipeline(config.test_dataloader, scale), 'batch_size': 1})
    for index in indices:
        if not 0 <= index < len(loader.dataset):
            raise ValueError(f'--images {index}: the test data has {len(loader.dataset)} images, from 0')
    return [loader.collate_fn([loader.dataset[index]]) for index in indices], loader.dataset.metainfo


def titles(model: nn.Module, subnets: Sequence[Subnet], config: Config, results: Path | None) -> dict[Subnet, str]:
    """For each sub-network its width, scale and multiply-adds and, with results, its mAP."""
    size = nominal_size(config.test_dataloader)
    reached = {} if results is None else read_results(results)
    texts = {}
    for subnet in subnets:
        parts = [f'width {subnet.width:g}', *([f'scale {subnet.scale:g}'] if subnet.scale != 1.0 else [])]
        try:
            with use_width(model, subnet.width):
                sides = tuple(round(side * subnet.scale) for side in size or ())
                parts.append(f'{format_count(count_multiply_adds(model, sides)["total"])} multiply-adds')
        except ValueError:
            pass  # draw a detector that cannot be counted, or whose images have no nominal size, without the number
        metrics = [f'{name} {value:.3f}' for name, value in reached.get(subnet, {}).items() if name.endswith('mAP')]
        texts[subnet] = '\n'.join(', '.join(line) for line in (parts, metrics) if line)
    return texts


def read_results(path: Path) -> dict[Subnet, dict]:
    """The results of tools/test.py by sub-network."""
    try:
        rows = json.loads(path.read_text())
        return {Subnet(row['width'], row['scale'], row.get('decoder_layers')): row for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'--results {path} is not a table of sub-networks ({error}). Pass the subnets.json that tools/test.py wrote'
        ) from error


def main() -> None:
    """Load, detect, draw."""
    args = parse_args()
    with clear_errors():
        config = load_config(args.config, args.cfg_options)
        prepare(config, splits=('test',))
        model, _ = load_model(config, args.checkpoint, needs_detector='a picture of detections')
        fit_padding(model)  # before the titles count multiply-adds
        model.to('cuda' if torch.cuda.is_available() else 'cpu')
        loop = dict(widths=args.widths) if args.widths else config.test_cfg
        widths = evaluated_widths(model, loop.get('widths'), loop.get('num_widths'))
        scales = check_ratios(args.scales, 'scales')
        images = {scale: load_images(config, args.images, scale) for scale in scales}
        subnets = [Subnet(width, scale) for scale in scales for width in widths]
        out = args.out or Path(config.get('work_dir') or f'./work_dirs/{config_name(args.config)}') / 'widths.png'
        path = show_widths(
            model,
            {scale: batches for scale, (batches, _) in images.items()},
            widths,
            out,
            images[scales[0]][1],
            args.score_thr,
            labels=not args.no_labels,
            titles=titles(model, subnets, config, args.results),
        )
    print(f'picture: {path}')


if __name__ == '__main__':
    main()
