"""The trainings of each method, and a runner for them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).parents[2]
WIDTHS = (1.0, 0.75, 0.5, 0.25)
DETECTORS = ('mask_rcnn', 'faster_rcnn')
SHAPES = dict(num_train=1200, num_val=200, min_size=12, max_size=96)  # of the data that the config names
EXAMPLE = 'configs/mutual_mask_rcnn_r18_shapes_detector.py'
DIGITS = ROOT / 'work_dirs/mutual_resnet18_digits/epoch_10.pth'


@dataclass(frozen=True)
class Training:
    """One training.

    Args:
        environment: Variables that the config reads.
        settings: ``--cfg-options``.
        config: The config, relative to the repository.
        lengths: Its number of epochs for each epoch of the other trainings.
        needs: A required file, and the command that makes it.
    """

    environment: dict[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    config: str = 'benchmarks/evidence/config.py'
    lengths: int = 1
    needs: tuple[Path, str] | None = None

    def run(self, detector: str, seed: int, epochs: int, folder: Path) -> None:
        """Train and evaluate with the project's tools; ``rows.json`` in the folder appears when all is done.

        Args:
            detector: One of ``DETECTORS``.
            seed: Seed of the training.
            epochs: Epochs of the other trainings.
            folder: Folder of this training; an interrupted training is resumed.

        Raises:
            FileNotFoundError: If a file that the training needs is missing.
            subprocess.CalledProcessError: If a tool fails; ``log.txt`` in the folder has the reason.
        """
        if self.needs and not self.needs[0].is_file():
            raise FileNotFoundError(f'{self.needs[0]} is missing; make it:  {self.needs[1]}')
        folder.mkdir(parents=True, exist_ok=True)
        epochs *= self.lengths
        environment = {**os.environ, 'DETECTOR': detector, 'EPOCHS': f'{epochs}', **self.environment}
        settings = ['--cfg-options', *self.settings, f'randomness.seed={seed}']
        if self.config == EXAMPLE:
            settings += [f'train_cfg.max_epochs={epochs}', f'param_scheduler.1.end={epochs}']
            settings += [f'train_cfg.val_interval={epochs + 1}']
        common = [str(ROOT / self.config), '--work-dir', str(folder)]
        with (folder / 'log.txt').open('a') as log:
            call('train.py', [*common, '--resume', *settings], environment, log)
            checkpoint = Path((folder / 'last_checkpoint').read_text())
            call('test.py', [common[0], str(checkpoint), *common[1:], *settings], environment, log)
        newest = max(folder.rglob('subnets.json'), key=lambda path: path.stat().st_mtime)
        os.replace(newest, folder / 'rows.json')
        for path in folder.glob('epoch_*.pth'):
            if path.name != checkpoint.name:
                path.unlink()


def call(tool: str, arguments: list[str], environment: dict[str, str], log: TextIO) -> None:
    """Run one of the project's tools, with its output in a log; raise ``CalledProcessError`` if it fails."""
    command = [sys.executable, str(ROOT / 'tools' / tool), *arguments]
    subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _hook(setting: str) -> Training:
    return Training(settings=(f'custom_hooks.1.{setting}',))


def _quarter(method: str) -> Training:
    """The same number of iterations on a quarter of the images."""
    return Training(dict(METHOD=method), ('train_dataloader.dataset.indices=300',), lengths=4)


def start_weights(**init_cfg: object) -> tuple[str, ...]:
    """The settings that replace the initial weights of the backbone."""
    init_cfg = {'_delete_': True, **init_cfg}
    return tuple(f'model.backbone.init_cfg.{name}={value}' for name, value in init_cfg.items())


TRAININGS = {
    'mutual': Training(),
    'us_net': Training(dict(METHOD='us_net')),
    **{f'independent_{width:g}': Training(dict(METHOD='independent', WIDTH=f'{width:g}')) for width in WIDTHS},
    'mutual_quarter': _quarter('mutual'),
    'us_net_quarter': _quarter('us_net'),
    'random_0': _hook('num_subnets=2'),
    'random_1': _hook('num_subnets=3'),
    'random_3': _hook('num_subnets=5'),
    'mean': _hook('loss_reduction=mean'),
    'distilled': _hook('distill.type=PearsonDistillation'),
    'running': Training(dict(CALIBRATE='no')),
    'digits': Training(
        settings=start_weights(type='Pretrained', checkpoint=DIGITS, prefix='backbone.'),
        needs=(DIGITS, 'make pretrain'),
    ),
    'backbone': Training(settings=('model.scope=backbone', 'model.neck.slim_out=False'), config=EXAMPLE),
    'detector': Training(config=EXAMPLE),
}
CLAIMS = {
    'MutualNet': ('mutual',),
    'US-Net': ('us_net',),
    'independent': tuple(f'independent_{width:g}' for width in WIDTHS),
}
QUARTER = {'MutualNet, 300 images': ('mutual_quarter',), 'US-Net, 300 images': ('us_net_quarter',)}
ABLATIONS = {
    'scales off (US-Net)': ('us_net',),
    'no random sub-network': ('random_0',),
    '1 random sub-network': ('random_1',),
    '3 random sub-networks': ('random_3',),
    'mean of the losses': ('mean',),
    'in-place distillation': ('distilled',),
    'running statistics': ('running',),
    'pretrained on digits': ('digits',),
}
SCOPES = {'scope backbone': ('backbone',), 'scope detector': ('detector',)}
METHODS = {**CLAIMS, **QUARTER, **ABLATIONS, **SCOPES}
