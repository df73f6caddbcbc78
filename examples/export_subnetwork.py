"""Export one sub-network of a trained detector as a config and checkpoint of stock MMDetection, and load them there.

Usage::

    python examples/train_on_shapes.py
    python examples/export_subnetwork.py --width 0.5 --scale 0.75
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmdet.apis import inference_detector, init_detector

from mmmutual.checkpoint import latest_checkpoint, load_model
from mmmutual.config import load_config
from mmmutual.deploy import export_subnet


def main() -> None:
    """Cut the sub-network out, write it, and detect with stock MMDetection."""
    parser = argparse.ArgumentParser(description='Export a sub-network to stock MMDetection')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/example'), help='of train_on_shapes.py')
    parser.add_argument('--width', type=float, default=0.5, help='width multiplier')
    parser.add_argument('--scale', type=float, default=0.75, help='input scale')
    args = parser.parse_args()

    config = load_config(args.work_dir / 'mutual_mask_rcnn_r18_shapes.py')  # which the training wrote there
    checkpoint = latest_checkpoint(args.work_dir)
    model, content = load_model(config, checkpoint)

    # The exported model is compared with the sub-network before the files are written.
    out_dir = args.work_dir / 'export'
    exported = export_subnet(config, model, args.width, args.scale, out_dir, content['meta'])
    counts = [sum(weight.numel() for weight in net.parameters()) / 1e6 for net in (model, exported.detector)]
    print(f'parameters: {counts[0]:.2f} M in the slimmable detector, {counts[1]:.2f} M exported')
    print(f'largest difference of the outputs: {exported.difference}')

    # From here on mmmutual is not needed: the config names MMDetection's own classes.
    detector = init_detector(str(exported.config_path), str(exported.checkpoint_path), device='cpu')
    dataset = config.val_dataloader.dataset
    image = min(Path(dataset.data_root, dataset.data_prefix.img).glob('*.png'))
    instances = inference_detector(detector, str(image)).pred_instances
    print(f'{type(detector.backbone).__name__} in {exported.config_path}: {len(instances)} objects in {image.name}')


if __name__ == '__main__':
    main()
