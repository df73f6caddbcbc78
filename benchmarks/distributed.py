"""Compare the results of 1, 2 and 4 processes: python -m benchmarks.distributed [--processes 1 2 4].

Each number of gloo processes trains and calibrates on all images (tools/dist_train.sh). This process calibrates the
same weights on the same batches. Then each number evaluates the grid of the first checkpoint (tools/dist_test.sh).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mmdet.registry import DATASETS, MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

import mmmutual
from mmmutual.checkpoint import read_checkpoint
from tests.support.tiny import draw_tiny, tiny_config  # the tests' tiny data and config

ROOT = Path(__file__).parents[1]

IMAGES, BATCH = 8, 2


def main() -> None:
    """Run each number of processes; compare with the first."""
    parser = argparse.ArgumentParser(description='Compare training, calibration and evaluation in several processes')
    parser.add_argument('--processes', nargs='+', type=int, default=(1, 2, 4))
    args = parser.parse_args()
    register_all_modules(init_default_scope=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data = draw_tiny(folder / 'shapes', IMAGES)
        first, tables = None, []
        for number in args.processes:
            start = time.perf_counter()
            checkpoint = train(folder, data, number)
            difference = compare(folder, checkpoint, number)
            first = first or checkpoint
            tables.append(evaluate(folder, first, number))
            verdict = 'equal' if tables[-1] == tables[0] else 'DIFFERENT'
            print(
                f'{number} processes: calibrated statistics differ by at most {difference:.1e} (relative); metrics of '
                f'{len(tables[-1])} sub-networks {verdict}; {time.perf_counter() - start:.0f} s',
                flush=True,
            )


def train(folder: Path, data: Path, number: int) -> Path:
    """Train for an epoch without shuffling and flips, and calibrate.

    Returns:
        The checkpoint.
    """
    config = tiny_config(data, folder / f'work_{number}')
    config.train_dataloader.sampler.shuffle = False
    dataset = config.train_dataloader.dataset
    dataset.pipeline = [transform for transform in dataset.pipeline if transform.type != 'RandomFlip']
    config.custom_hooks.append(dict(type='BNCalibrationHook', num_batches=IMAGES // BATCH // number))
    config.dump(folder / 'config.py')
    run('dist_train.sh', folder / 'config.py', number)
    return folder / f'work_{number}' / 'epoch_1.pth'


def compare(folder: Path, checkpoint: Path, number: int) -> float:
    """Calibrate the weights of a checkpoint here, on the batches that its processes had.

    Returns:
        The largest difference from the statistics in it, relative to the largest statistic of each layer.
    """
    config = Config.fromfile(folder / 'config.py')
    state = read_checkpoint(checkpoint)['state_dict']
    model = MODELS.build(config.model)
    model.load_state_dict(state)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    ranks = [range(rank, IMAGES, number) for rank in range(number)]
    batches = [rank[start : start + BATCH] for rank in ranks for start in range(0, len(rank), BATCH)]
    mmmutual.calibrate(model, [pseudo_collate([dataset[index] for index in batch]) for batch in batches])
    differences = [
        ((state[name] - value).abs().max() / value.abs().max()).item()
        for name, value in model.state_dict().items()
        if 'running_' in name
    ]
    return max(differences)


def evaluate(folder: Path, checkpoint: Path, number: int) -> list[dict]:
    """The sub-networks that dist_test.sh has evaluated."""
    work_dir = folder / f'test_{number}'
    run('dist_test.sh', folder / 'config.py', checkpoint, number, '--work-dir', work_dir)
    return json.loads(next(work_dir.rglob('subnets.json')).read_text())


def run(script: str, *arguments: object) -> None:
    """Run one of the scripts with this Python, on the CPU."""
    environment = {**os.environ, 'PYTHON': sys.executable, 'CUDA_VISIBLE_DEVICES': '-1'}
    command = ['bash', str(ROOT / 'tools' / script), *map(str, arguments)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(result.stderr)


if __name__ == '__main__':
    main()
