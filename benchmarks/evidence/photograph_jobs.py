"""The trainings that benchmarks/photographs.py compares, and a runner for them."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config

from mmmutual.config import make_mutual

from .compute import Costs, cost_of_passes, count_costs
from .trainings import ROOT, WIDTHS, call

CONFIG = ROOT / 'benchmarks/evidence/photographs.py'
SCALES = (1.0, 0.75, 0.5)
BOOSTING = (1.0, 0.975, 0.95, 0.925, 0.9)
EPOCHS = dict(bccd=16, nuclei=12)  # of the trainings of equal steps


@dataclass(frozen=True)
class Job:
    """One training.

    Args:
        epochs: Its epochs.
        tool: ``'stock'`` trains a stock detector, ``'mutual'`` a mutual one from random weights; ``'elastic'`` makes
            the stock detector of width 1.0 of the seed elastic.
        widths: Width of the backbone of a stock detector, or widths to train.
        scales: Scales to train.
        scope: Part of a mutual detector that is slimmable.
    """

    epochs: int
    tool: str = 'mutual'
    widths: tuple[float, ...] = WIDTHS
    scales: tuple[float, ...] = SCALES
    scope: str = 'backbone'

    @property
    def evaluated(self) -> tuple[float, ...]:
        """The widths to evaluate."""
        return WIDTHS if self.widths == WIDTHS else self.widths[:1]

    def cost(self, costs: Costs) -> float:
        """Its compute in epochs of the stock detector, from the costs of its scope, without a stock training before."""
        if self.tool == 'stock':
            return self.epochs * costs[self.widths[0], 1.0]
        return self.epochs * cost_of_passes(self.widths, self.scales, costs)

    def run(self, data: Path, data_set: str, seed: int, folder: Path, stock: Path) -> None:
        """Train and evaluate with the project's tools; ``result.json`` in the folder appears at the end.

        Args:
            data: Folder of the data sets.
            data_set: One of ``EPOCHS``.
            seed: Seed of the training.
            folder: Folder of this training; an interrupted training starts again.
            stock: Folder of the stock training of width 1.0 of the seed.

        Raises:
            subprocess.CalledProcessError: If a tool fails; ``log.txt`` in the folder has the reason.
        """
        width = self.widths[0] if self.tool == 'stock' else 1.0
        variables = dict(DATA=str(data), DATA_SET=data_set, WIDTH=f'{width}', EPOCHS=f'{self.epochs}')
        environment = {**os.environ, **variables}
        common = ['--work-dir', str(folder)]
        grid = ['--widths', *map(str, self.widths), '--scales', *map(str, self.scales)]
        seeded = ['--cfg-options', f'randomness.seed={seed}']
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with (folder / 'log.txt').open('w') as log:
            if self.tool == 'elastic':
                arguments = [str(CONFIG), (stock / 'last_checkpoint').read_text(), *grid, '--epochs', f'{self.epochs}']
                once = f'default_hooks.checkpoint.interval={self.epochs}'
                call('elastic.py', [*arguments, *common, *seeded, once], environment, log)
                config = folder / f'elastic_{CONFIG.name}'
            else:
                mutual = ['--mutual', self.scope, *grid] if self.tool == 'mutual' else []
                call('train.py', [str(CONFIG), *common, *mutual, *seeded], environment, log)
                config = folder / CONFIG.name
            if self.tool == 'stock':  # its checkpoint is that of a mutual config of one width
                config = folder / 'as_mutual.py'
                make_mutual(Config.fromfile(folder / CONFIG.name), (1.0,), SCALES).dump(config)
            checkpoint = (folder / 'last_checkpoint').read_text()
            widths = ['1.0'] if self.tool == 'stock' else [*map(str, self.evaluated)]
            arguments = [str(config), checkpoint, '--widths', *widths, '--scales']
            call('test.py', [*arguments, *map(str, SCALES), *common], environment, log)
            rows = newest_rows(folder)
            annotations = annotations_of_training_images(data / data_set, folder)
            settings = [
                f'test_evaluator.ann_file={annotations}',
                f'test_dataloader.dataset.ann_file={annotations}',
                'test_dataloader.dataset.data_prefix.img=train/',
            ]
            other = ['--work-dir', str(folder / 'training_images')]  # the config in its work dir is overwritten
            call('test.py', [*arguments, '1.0', *other, '--cfg-options', *settings], environment, log)
            on_training_images = newest_rows(folder)
        if self.tool == 'stock':
            rows, on_training_images = (
                [{**row, 'width': width} for row in each] for each in (rows, on_training_images)
            )
        for path in folder.rglob('*.pth'):
            if path != Path(checkpoint):
                path.unlink()
        result = dict(training=training_log(folder), rows=rows, training_images=on_training_images)
        (folder / 'result.json').write_text(json.dumps(result, indent=1) + '\n')


def newest_rows(folder: Path) -> list[dict]:
    """The sub-networks that ``tools/test.py`` evaluated last."""
    return json.loads(max(folder.rglob('subnets.json'), key=lambda path: path.stat().st_mtime).read_text())


def annotations_of_training_images(data: Path, folder: Path) -> Path:
    """Write the annotations of as many training images as there are validation images, evenly spaced."""
    train, val = (json.loads((data / f'annotations/instances_{part}.json').read_text()) for part in ('train', 'val'))
    places = np.linspace(0, len(train['images']) - 1, len(val['images'])).round().astype(int)
    train['images'] = [train['images'][place] for place in places]
    known = {image['id'] for image in train['images']}
    train['annotations'] = [each for each in train['annotations'] if each['image_id'] in known]
    path = folder.absolute() / 'training_images.json'
    path.write_text(json.dumps(train))
    return path


def training_log(folder: Path) -> dict:
    """Iterations, seconds without evaluation, and the mean of the loss in the first and in the last tenth."""
    files = sorted(folder.rglob('vis_data/scalars.json'))
    records = [json.loads(text) for path in files for text in path.read_text().splitlines()]
    records = [record for record in records if 'loss' in record]
    tenth = -(-len(records) // 10)
    losses = [record['loss'] for record in records]
    return dict(
        iterations=records[-1]['step'],
        seconds=round(records[-1]['step'] * float(np.mean([record['time'] for record in records])), 1),
        first_loss=round(float(np.mean(losses[:tenth])), 3),
        last_loss=round(float(np.mean(losses[-tenth:])), 3),
    )


def relative_costs(data: Path, data_set: str, scope: str = 'backbone') -> dict[tuple[float, float], float]:
    """The multiply-adds of each width and scale over those of the stock detector, in training.

    The heads are counted with the RoIs of a training pass: 32 an image, a quarter of them with masks.
    """
    os.environ.update(DATA=str(data), DATA_SET=data_set, WIDTH='1.0')
    config = Config.fromfile(CONFIG)
    rois = config.model.train_cfg.rcnn.sampler.num
    config.model.test_cfg.rpn.max_per_img, config.model.test_cfg.rcnn.max_per_img = rois, rois // 4
    grids = (WIDTHS, BOOSTING)
    costs = [count_costs(config, widths, SCALES, scope, config.training_size) for widths in grids]
    return costs[0] | costs[1]


def jobs_of(data_set: str, costs: Costs) -> dict[str, Job]:
    """All trainings of a data set with these costs, by name, the most important first.

    The trainings of equal steps have the same number of epochs. Those of equal compute have the compute of US-Net, as
    nearly as a number of epochs can.
    """
    epochs = EPOCHS[data_set]
    us_net = Job(epochs, scales=(1.0,))
    compute = us_net.cost(costs)
    passes = cost_of_passes(WIDTHS, SCALES, costs)
    jobs = {
        'independent 1': Job(epochs, 'stock', (1.0,)),
        'MutualNet': Job(epochs),
        'US-Net': us_net,
        **{f'independent {width:g}': Job(epochs, 'stock', (width,)) for width in WIDTHS[1:]},
        'independent 1, equal compute': Job(round(compute), 'stock', (1.0,)),
        'MutualNet, equal compute': Job(round(compute / passes)),
        'elastic': Job(round((compute - epochs) / passes), 'elastic'),
        'elastic, a fifth of the training': Job(round(epochs / 5), 'elastic'),
        'scales only': Job(epochs, widths=(1.0,)),
        'scope detector': Job(epochs, scope='detector'),
    }
    if data_set == 'bccd':  # the shorter trainings
        jobs['boosting'] = Job(epochs, widths=BOOSTING)
    return jobs
