"""Kill trainings and query tables at random moments, continue, compare: python -m benchmarks.kill_and_resume.

Each try runs a tool on tiny data in a separate process and kills it. Then every file with its final name must be
undamaged. The tool, started again, must end like an uninterrupted run: with the same parameters and optimizer, bit
for bit, or with the same sub-networks.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import runpy
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil
import torch

from mmmutual.checkpoint import read_checkpoint
from mmmutual.evaluation import QueryTable, format_table
from tests.support.tiny import draw_tiny, tiny_config  # the tests' tiny data and config

ROOT = Path(__file__).parents[1]

GRID = ('--widths', '1.0', '0.25', '--scales', '1.0', '0.75', '0.5', '--repeats', '2')
SPAN = 0.98  # of a run's processor time, in which it is killed
POLL = 1e-3  # seconds between two looks for a file


class Run:
    """A tool in a separate process, forked so that it starts without importing anything.

    Args:
        log: File for its output.
        tool: Path below tools/.
        *arguments: Its command-line arguments.
    """

    def __init__(self, log: Path, tool: str, *arguments: object) -> None:
        self.log, self.command = log, [str(ROOT / 'tools' / tool), *map(str, arguments)]
        self.process = multiprocessing.get_context('fork').Process(target=self._main)
        self.process.start()

    def _main(self) -> None:
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = self.command
        runpy.run_path(self.command[0], run_name='__main__')

    def kill(self, moment: float | Path) -> bool:
        """Kill it after some seconds of processor time, or as soon as a new file appears.

        Returns:
            Whether it was killed; False if it had ended before.
        """
        watched = psutil.Process(self.process.pid)
        while self.process.is_alive():
            if moment.exists() if isinstance(moment, Path) else sum(watched.cpu_times()[:2]) >= moment:
                os.kill(self.process.pid, signal.SIGKILL)
                self.process.join()
                return True
            time.sleep(POLL)
        return False

    def finish(self) -> float:
        """Wait for its end.

        Returns:
            Its processor time in seconds.

        Raises:
            RuntimeError: If it fails.
        """
        before = sum(os.times()[2:4])
        self.process.join()
        if self.process.exitcode:
            raise RuntimeError(f'{" ".join(self.command)} failed: {self.log.read_text()[-2000:]}')
        return sum(os.times()[2:4]) - before


class Training:
    """Trainings of a few epochs, each validated, that keep the last checkpoint and the best one.

    Args:
        folder: For data, configs and work dirs.
        hook: Type of the hook that writes checkpoints.
        epochs: Number of epochs, of four iterations each.
    """

    def __init__(self, folder: Path, hook: str, epochs: int) -> None:
        self.folder, self.hook, self.epochs = folder, hook, epochs
        self.data = draw_tiny(folder / 'shapes')
        self.seconds = self.start('whole').finish()
        self.end = folder / 'whole' / f'epoch_{epochs}.pth'

    def start(self, name: str, *arguments: str) -> Run:
        """Start or resume a training."""
        config = tiny_config(self.data, self.folder / name)
        config.train_cfg.update(max_epochs=self.epochs, val_interval=1)
        config.val_cfg.widths = (1.0,)
        config.default_hooks.checkpoint.update(type=self.hook, max_keep_ckpts=1, save_best='coco/bbox_mAP')
        config.dump(self.folder / f'{name}.py')
        return Run(self.folder / f'{name}.log', 'train.py', self.folder / f'{name}.py', *arguments)

    def moment(self, name: str, while_writing: bool) -> float | Path:
        """When to kill it."""
        if not while_writing:
            return random.uniform(0, SPAN * self.seconds)
        name_while = 'epoch_{}.pth' if self.hook == 'CheckpointHook' else '.epoch_{}_part.pth'
        return self.folder / name / name_while.format(random.randint(1, self.epochs))

    def what_is_lost(self, name: str) -> str:
        """Check the files of a killed training, resume it, and compare its end.

        Returns:
            The lost work, in words; empty if nothing is lost.
        """
        work_dir = self.folder / name
        for path in work_dir.glob('[!.]*.pth'):
            try:
                read_checkpoint(path)
            except ValueError:
                return f'{path.name} is half written'
        last = work_dir / 'last_checkpoint'
        if last.exists() and not Path(last.read_text()).exists():
            return 'the last checkpoint is gone'
        try:
            self.start(name, '--resume').finish()
        except RuntimeError:
            return 'it cannot be resumed'
        ours, theirs = (read_checkpoint(path) for path in (work_dir / self.end.name, self.end))
        same = all(equal(ours[key], theirs[key]) for key in ('state_dict', 'optimizer'))
        return '' if same else 'other parameters'


class Table:
    """Query tables of the trained checkpoint.

    Args:
        folder: The folder for the tables.
        training: The training of the checkpoint.
    """

    def __init__(self, folder: Path, training: Training) -> None:
        self.folder, self.training = folder, training
        self.seconds = self.start('whole').finish()
        self.end = subnets_of(folder / 'whole.json')

    def start(self, name: str) -> Run:
        """Start a table or continue it."""
        files = (self.training.folder / 'whole.py', self.training.end, *GRID, '-o', self.folder / f'{name}.json')
        return Run(self.folder / f'{name}.log', 'analysis_tools/query_table.py', *files)

    def moment(self, name: str, while_writing: bool) -> float | Path:
        """When to kill it."""
        return self.folder / f'.{name}_part.json' if while_writing else random.uniform(0, SPAN * self.seconds)

    def what_is_lost(self, name: str) -> str:
        """Check the file of a killed run, continue, and compare the end."""
        path = self.folder / f'{name}.json'
        try:
            before = subnets_of(path) if path.exists() else {}
            self.start(name).finish()
        except (ValueError, RuntimeError):
            return 'the table is half written'
        after = subnets_of(path)
        lost = any(after.get(key) != subnet for key, subnet in before.items())
        return 'a sub-network is lost' if lost else '' if after == self.end else 'other sub-networks'


def killed_run(kind: Training | Table, name: str, while_writing: bool) -> tuple[str, float | Path]:
    """Start runs until one is killed before its end.

    Returns:
        Its name, and the moment of the kill.
    """
    while True:
        moment = kind.moment(name, while_writing)
        if kind.start(name).kill(moment):
            return name, moment
        name = f'{name}_again'


def subnets_of(path: Path) -> dict:
    """The content of a table except for the latency, by width and scale."""
    subnets = QueryTable.load(path).subnets
    return {
        (subnet.width, subnet.scale): (subnet.multiply_adds, subnet.parameters, subnet.metrics) for subnet in subnets
    }


def equal(ours: object, theirs: object) -> bool:
    """Whether two nested structures hold the same tensors and numbers."""
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(equal(value, theirs[key]) for key, value in ours.items())
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    return ours == theirs


def main() -> None:
    """Run the tries of each fault and print the table."""
    parser = argparse.ArgumentParser(description='Kill and resume trainings and query tables')
    parser.add_argument(
        '--kills', type=int, default=20, help='number of kills, half of them at random moments of a training'
    )
    parser.add_argument('--hook', default='AtomicCheckpointHook', help='checkpoint hook; CheckpointHook for comparison')
    parser.add_argument('--epochs', type=int, default=3)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / 'tables').mkdir()
        training = Training(folder, args.hook, args.epochs)
        table = Table(folder / 'tables', training)
        print(
            f'without a fault: training {training.seconds:.1f} s, query table {table.seconds:.1f} s of processor time',
            flush=True,
        )
        faults = {
            'training killed at a random moment': (training, False, 0.5),
            'training killed while a checkpoint is written': (training, True, 0.2),
            'query table killed at a random moment': (table, False, 0.2),
            'query table killed while its file is written': (table, True, 0.1),
        }
        lost: dict[str, list[str]] = defaultdict(list)
        for index, (fault, (kind, while_writing, share)) in enumerate(faults.items()):
            for number in range(max(1, round(share * args.kills))):
                name, moment = killed_run(kind, f'try_{index}_{number}', while_writing)
                lost[fault].append(kind.what_is_lost(name))
                print(f'{fault} ({getattr(moment, "name", moment)}): {lost[fault][-1] or "survived"}', flush=True)
    rows = [
        dict(
            fault=fault,
            tries=str(len(ends)),
            survived=str(ends.count('')),
            lost=', '.join(dict.fromkeys(filter(None, ends))) or 'nothing',
        )
        for fault, ends in lost.items()
    ]
    print(format_table(rows))
    raise SystemExit(any(end for ends in lost.values() for end in ends))


if __name__ == '__main__':
    main()
