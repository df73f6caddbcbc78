"""The trainings that benchmarks/elastic.py compares, and a runner for them."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from .compute import PASSES, Costs, cost_of_passes, count_costs
from .trainings import ROOT, WIDTHS, call, start_weights

CONFIG = ROOT / 'benchmarks/evidence/stock.py'
SCALES = (1.0, 0.75, 0.5)
STOCK, FINE_TUNING = 750, 250  # iterations
BACKBONE = start_weights(type='Pretrained', checkpoint='{stock}', prefix='backbone.')


@dataclass(frozen=True)
class Job:
    """One training.

    Args:
        iterations: Its iterations.
        tool: ``'stock'`` trains a stock detector, ``'mutual'`` a mutual one from random weights; ``'elastic'`` makes
            the stock detector of the seed elastic.
        width: Width of the backbone of a stock detector.
        options: Further options of the tool.
        hook: Settings of ``MutualLearningHook``.
        settings: Further ``--cfg-options``; ``{stock}`` stands for the checkpoint of the stock detector.
    """

    iterations: int
    tool: str = 'elastic'
    width: float = 1.0
    options: tuple[str, ...] = ()
    hook: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def run(self, detector: str, seed: int, folder: Path, stock: Path) -> None:
        """Train and evaluate at scale 1.0 with the project's tools; ``rows.json`` in the folder appears at the end.

        Args:
            detector: One of ``DETECTORS``.
            seed: Seed of the training.
            folder: Folder of this training; an interrupted training starts again.
            stock: Folder of the stock training of the seed.
        """
        iterations = self.iterations or FINE_TUNING  # the images to calibrate on
        environment = {**os.environ, 'DETECTOR': detector, 'ITERATIONS': f'{iterations}', 'WIDTH': f'{self.width}'}
        grid = ['--widths', *map(str, WIDTHS), '--scales', *map(str, SCALES)]
        checkpoint = '' if self.tool == 'stock' else (stock / 'last_checkpoint').read_text()
        own = [setting.format(stock=checkpoint) for setting in self.settings]
        settings = ['--cfg-options', f'randomness.seed={seed}', *own]
        common = ['--work-dir', str(folder)]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with (folder / 'log.txt').open('w') as log:
            if self.tool == 'elastic':
                arguments = [CONFIG, checkpoint, *common, *grid, '--epochs', -(-self.iterations // 250), *self.options]
                settings += ['test_cfg.scales=(1.0,)', *self._hook_settings()]
                call('elastic.py', [*map(str, arguments), *settings], environment, log)
            else:
                mutual = ['--mutual', *grid] if self.tool == 'mutual' else []
                call('train.py', [str(CONFIG), *common, *mutual, *settings], environment, log)
                checkpoint = (folder / 'last_checkpoint').read_text()
                config = str(folder / CONFIG.name)
                scales = ['--scales', '1.0'] if mutual else []
                call('test.py', [config, checkpoint, *common, *scales], environment, log)
        (folder / 'rows.json').write_text(json.dumps(self._rows(folder)))

    def _hook_settings(self) -> list[str]:
        place = 1 if 'none' in self.options else 2  # without an order there is no hook for it
        return [f'custom_hooks.{place}.{setting}' for setting in self.hook]

    def _rows(self, folder: Path) -> list[dict]:
        """The sub-networks, as ``tools/test.py`` writes them; a stock detector has one, of its width."""
        found = sorted(folder.rglob('subnets.json'), key=lambda path: path.stat().st_mtime)
        if self.tool != 'stock':
            return json.loads(found[-1].read_text())
        newest = max(folder.glob('2*/2*.json'), key=lambda path: path.stat().st_mtime)
        metrics = json.loads(newest.read_text())
        names = {'box mAP': 'coco/bbox_mAP', 'mask mAP': 'coco/segm_mAP'}
        return [
            {
                'width': self.width,
                'scale': 1.0,
                **{name: metrics[key] for name, key in names.items() if key in metrics},
            }
        ]

    @property
    def scope(self) -> str:
        """The part of the detector that is slimmable."""
        return 'detector' if 'detector' in self.options else 'backbone'

    def cost(self, costs: Costs) -> float:
        """Its compute in iterations of the stock detector, without the stock training, from the costs of its scope."""
        if self.tool == 'stock':
            return self.iterations * costs[self.width, 1.0]
        passes = next((int(setting.split('=')[1]) for setting in self.hook if 'num_subnets' in setting), PASSES)
        return self.iterations * cost_of_passes(WIDTHS, SCALES, costs, passes)


def relative_costs(detector: str, scope: str = 'backbone') -> dict[tuple[float, float], float]:
    """The multiply-adds of each width and scale over those of the stock detector."""
    os.environ.update(DETECTOR=detector, WIDTH='1.0')
    return count_costs(Config.fromfile(CONFIG), WIDTHS, SCALES, scope, (128, 128))


def jobs_of(costs: Costs) -> dict[str, Job]:
    """All trainings of a detector with these costs, by name; the stock training is first."""
    as_it_is = ('--importance', 'none')
    of_iteration = cost_of_passes(WIDTHS, SCALES, costs)
    tuned = FINE_TUNING * of_iteration

    def equal(compute: float, each: float) -> int:
        return round(compute / each)

    jobs = {'stock': Job(STOCK, 'stock')}
    for iterations in (0, 250, 125, 500):
        jobs[f'ordered, {iterations}'] = Job(iterations)
        jobs[f'as it is, {iterations}'] = Job(iterations, options=as_it_is)
    jobs['scratch, equal compute'] = Job(equal(STOCK + tuned, of_iteration), 'mutual')
    jobs['scratch, stock not counted'] = Job(FINE_TUNING, 'mutual')
    for start, order in (('ordered', ('default_hooks.order.type=ChannelOrderHook',)), ('as it is', ())):
        jobs[f'backbone, {start}'] = Job(FINE_TUNING, 'mutual', settings=(*BACKBONE, *order))
    for width in WIDTHS[1:]:
        jobs[f'narrow {width:g}'] = Job(equal(tuned / 3, costs[width, 1.0]), 'stock', width)
    for kind in ('RoIDistillation', 'PearsonDistillation'):
        jobs[f'{kind}, 250'] = Job(FINE_TUNING, hook=(f'distill.type={kind}',))
    for name, rate in (('half lr', 1e-3), ('quarter lr', 5e-4)):
        jobs[f'{name}, 250'] = Job(FINE_TUNING, settings=(f'optim_wrapper.optimizer.lr={rate}',))
    for passes in (2, 3):
        iterations = equal(tuned, cost_of_passes(WIDTHS, SCALES, costs, passes))
        jobs[f'{passes} passes'] = Job(iterations, hook=(f'num_subnets={passes}',))
    for name in ('l1', 'l2'):
        jobs[f'{name}, 0'] = Job(0, options=('--importance', name))
        jobs[f'{name}, 250'] = Job(FINE_TUNING, options=('--importance', name))
    for iterations in (0, 250):
        jobs[f'detector, ordered, {iterations}'] = Job(iterations, options=('--scope', 'detector'))
        jobs[f'detector, as it is, {iterations}'] = Job(iterations, options=('--scope', 'detector', *as_it_is))
    return jobs
