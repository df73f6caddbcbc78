"""Convert published slimmable weights: python .../slimmable_to_mmmutual.py SRC DST."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import torch
from mmdet.utils import register_all_modules

from mmmutual.checkpoint import convert_published
from mmmutual.checkpoint.atomic_write import write_whole
from mmmutual.engine import clear_errors

WHY = {
    'reset': 'the file has reset them',
    'other channels': 'the published network rounds to other numbers of channels there',
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Convert a checkpoint of MutualNet (ResNet-50, MobileNet v1, v2) or of slimmable_networks '
        "(S-ResNet-50, S- and US-MobileNet v1, v2) into one for mmmutual's backbones and mmpretrain's ImageClassifier. "
        'The tool detects the network from the file.'
    )
    parser.add_argument('src', metavar='SRC', help='published checkpoint, unpacked')
    parser.add_argument('dst', metavar='DST', help='converted checkpoint')
    return parser.parse_args()


def main() -> None:
    """Convert, save, report."""
    args = parse_args()
    with clear_errors():
        register_all_modules(init_default_scope=True)
        weights = convert_published(args.src)
        write_whole(args.dst, lambda path: torch.save(dict(state_dict=weights.state_dict), path))
    backbone = ', '.join(f'{key}={value!r}' for key, value in weights.backbone.items())
    own = 'own for each width' if 'norm_cfg' in weights.backbone else 'shared by all widths'
    print(f'{args.dst}: {weights.architecture}, {len(weights.state_dict)} tensors')
    print(f'affine parameters of batch norms: {own}')
    print(f'statistics of batch norms: widths {numbers(weights.ready) or "none"}')
    for why, text in WHY.items():
        widths = [width for width, reason in weights.left_out.items() if reason == why]
        if widths:
            print(f'left out: statistics of widths {numbers(widths)}: {text}')
    print(f"config: backbone=dict({backbone}, init_cfg=dict(type='Pretrained', checkpoint={args.dst!r}, ", end='')
    print("prefix='backbone.'))")
    if 'norm_cfg' not in weights.backbone:
        print(
            'other widths get statistics in training (norm_eval=False), or from: '
            f'python tools/misc/calibrate.py CLASSIFIER_CONFIG {args.dst} --widths 1.0 0.5 -o OUT'
        )
    if 1.0 not in weights.ready:
        print('width 1.0 has no statistics either: do not evaluate or freeze it before')


def numbers(widths: Iterable[float]) -> str:
    """Widths as a list to read."""
    return ', '.join(f'{width:g}' for width in widths)


if __name__ == '__main__':
    main()
