"""Write a sub-network as a narrow mmdet detector: python .../export_subnet.py CONFIG CHECKPOINT --width 0.5."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import DictAction
from torch import nn

from mmmutual.checkpoint import load_model
from mmmutual.config import config_name, load_config
from mmmutual.deploy import export_onnx, export_subnet, input_size
from mmmutual.deploy.onnx_export import check_onnx
from mmmutual.engine import Subnet, clear_errors
from mmmutual.layers import check_ratio
from mmmutual.slimming import input_channels


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Write a sub-network as an mmdet config and checkpoint. They load without mmmutual if a stock '
        'config has its channels. With --format onnx, also write its backbone, neck and dense head as ONNX.'
    )
    parser.add_argument('config', help='config file, or mmdet::NAME for a config of mmdet')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--width', type=float, required=True, help='width multiplier')
    parser.add_argument('--scale', type=float, default=1.0, help='input scale; default: 1.0')
    parser.add_argument(
        '--format', choices=['mmdet', 'onnx'], default='mmdet', help='onnx also writes dense.onnx; default: mmdet'
    )
    parser.add_argument(
        '--input-size',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help='fixed input size of the ONNX file in pixels; default: the size of padded test images',
    )
    parser.add_argument(
        '-o', '--out-dir', help='output folder; default: WORK_DIR/export/w0.5_s1, with the width and the scale'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='override settings of the config'
    )
    return parser.parse_args()


def main() -> None:
    """Load, export, report."""
    args = parse_args()
    with clear_errors():
        width, scale = check_ratio(args.width), check_ratio(args.scale, 'scale')
        if args.format == 'onnx':
            check_onnx()
        config = load_config(args.config, args.cfg_options)
        model, checkpoint = load_model(config, args.checkpoint, needs_detector='the export')
        work_dir = Path(config.get('work_dir') or f'./work_dirs/{config_name(args.config)}')
        out_dir = Path(args.out_dir) if args.out_dir else work_dir / 'export' / str(Subnet(width, scale))
        exported = export_subnet(config, model, width, scale, out_dir, checkpoint.get('meta'))
        print(f'config: {exported.config_path}')
        print(f'checkpoint: {exported.checkpoint_path}, {megabytes(exported.checkpoint_path)}')
        print(f'source: {args.checkpoint}, {megabytes(Path(args.checkpoint))}')
        print(f'parameters: {parameters(exported.detector)}, of {parameters(model)} at full width')
        same = 'equal bit for bit' if exported.difference == 0 else f'differ by {exported.difference:.1e}'
        print(f'checked: outputs of the sub-network and of the exported detector {same}')
        if not exported.is_stock:
            print(f'No stock config has the channels of width {width:g}, so detector.py needs mmmutual to load.')
        if args.format == 'onnx':
            size = tuple(args.input_size) if args.input_size else input_size(exported.config)
            path = out_dir / 'dense.onnx'
            difference = export_onnx(exported.detector, path, size, dict(width=width, scale=scale))
            print(f'onnx: {path}, {megabytes(path)}, input 1 x {input_channels(model)} x {size[0]} x {size[1]}')
            print(f'checked: outputs of onnxruntime and of PyTorch differ by {difference:.1e}')


def megabytes(path: Path) -> str:
    """Size of a file."""
    return f'{path.stat().st_size / 1e6:.1f} MB'


def parameters(model: nn.Module) -> str:
    """Number of parameters in millions."""
    return f'{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f} M'


if __name__ == '__main__':
    main()
