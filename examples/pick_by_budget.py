"""Measure each sub-network of a trained detector, pick the best one within a budget, and run it on an image.

Usage::

    python examples/train_on_shapes.py
    python examples/pick_by_budget.py --budget 280e6
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmmutual.checkpoint import latest_checkpoint
from mmmutual.config import load_config
from mmmutual.evaluation import fill_query_table
from mmmutual.inference import AdaptiveInferencer


def main() -> None:
    """Fill the query table, pick a sub-network, and detect within the budget."""
    parser = argparse.ArgumentParser(description='Pick the best sub-network within a budget')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/example'), help='of train_on_shapes.py')
    parser.add_argument('--budget', type=float, default=280e6, help='multiply-adds for one image')
    parser.add_argument('--repeats', type=int, default=30, help='timed runs of each sub-network')
    args = parser.parse_args()

    config = load_config(args.work_dir / 'mutual_mask_rcnn_r18_shapes.py')  # which the training wrote there
    checkpoint = latest_checkpoint(args.work_dir)

    # The table is a file: a second run reads it and evaluates nothing.
    path = args.work_dir / 'query_table' / 'table.json'
    table = fill_query_table(config, checkpoint, path, repeats=args.repeats)

    print('Pareto front, multiply-adds against mAP:')
    for subnet in table.front('multiply_adds'):
        print(f'  {subnet}')
    print(f'best within {args.budget / 1e6:.0f} M: {table.best(budget_multiply_adds=args.budget)}')

    # The inferencer is mmdet's DetInferencer, which picks by the same table at each call.
    inferencer = AdaptiveInferencer(config, checkpoint, table=table)
    dataset = config.val_dataloader.dataset
    image = min(Path(dataset.data_root, dataset.data_prefix.img).glob('*.png'))
    result = inferencer(str(image), budget_multiply_adds=args.budget)
    found, subnet = len(result['predictions'][0]['scores']), inferencer.subnet
    print(f'{image.name}: {found} objects, found by width {subnet.width:g} at scale {subnet.scale:g}')


if __name__ == '__main__':
    main()
