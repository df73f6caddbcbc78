"""Compare three resident detectors with one elastic checkpoint: python benchmarks/resident_detectors.py.

The trainings are those of benchmarks/photographs.py. The latencies of all sub-networks are measured in one run, in
random order.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import numpy as np
import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS
from mmengine.runner import load_checkpoint
from torch import nn

from evidence.photograph_jobs import EPOCHS, SCALES
from evidence.photograph_tables import total_compute
from evidence.tables import cell, head, line, metrics_in
from evidence.trainings import WIDTHS
from mmmutual.config import build_model, scale_pipeline
from mmmutual.evaluation.latency import device_name, measure_latency
from mmmutual.layers import set_width
from photographs import slug
from speed.memory import status
from speed.timing import timed

RESIDENT = (1.0, 0.5, 0.25)
SHARED = ('elastic', 'MutualNet')
SEPARATE = 'three detectors'
IMAGES = 4
Found = Mapping[str, Mapping[str, float]]  # figures, by kind
Latencies = Mapping[tuple[str, float, float], float]  # ms, by kind, width and scale


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Compare three resident detectors with one elastic checkpoint')
    parser.add_argument('--data-sets', nargs='+', choices=EPOCHS, default=[*EPOCHS], help='default: both')
    parser.add_argument('--rounds', type=int, default=15, help='timed rounds of four images; default: 15')
    parser.add_argument('--seed', type=int, default=0, help='seed of the checkpoints to measure; default: 0')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/photographs'), help='that of benchmarks/photographs.py'
    )
    return parser.parse_args()


def main() -> None:
    """Measure with the checkpoints of one seed; then print the tables, with the mAP of all seeds."""
    args = parse_args()
    warnings.filterwarnings('ignore')
    register_all_modules()
    path = args.work_dir / 'resident_detectors.json'
    found = json.loads(path.read_text()) if path.is_file() else {}
    for data_set in args.data_sets:
        figures, latencies = measure(args.work_dir / data_set, args.seed, args.rounds)
        rows = [[*subnet, value] for subnet, value in latencies.items()]
        found[data_set] = dict(device=device_name(torch.device('cpu')), figures=figures, latencies=rows)
    path.write_text(json.dumps(found) + '\n')
    for data_set in args.data_sets:
        kept = json.loads((args.work_dir / f'{data_set}.json').read_text())
        print(f'\n## {data_set}\n\n{format_tables(found[data_set], kept)}')


def checkpoints(folder: Path, kind: str, seed: int) -> dict[float, tuple[Path, Path]]:
    """Config and checkpoint of each width that has a separate detector; a shared one has width 1.0."""
    names = {1.0: kind} if kind in SHARED else {width: f'independent {width:g}' for width in RESIDENT}
    found = {}
    for width, name in names.items():
        run = folder / f'{slug(name)}_{seed}'
        if not (run / 'last_checkpoint').is_file() or not (run / 'result.json').is_file():
            raise SystemExit(f'error: {run} has no finished training: run benchmarks/photographs.py first')
        config = run / ('elastic_photographs.py' if name == 'elastic' else 'photographs.py')
        found[width] = config, Path((run / 'last_checkpoint').read_text())
    return found


def load(files: tuple[Path, Path]) -> nn.Module:
    """The detector of a config and a checkpoint."""
    model = build_model(Config.fromfile(files[0]))
    load_checkpoint(model, str(files[1]), map_location='cpu')
    return model.eval()


@torch.no_grad()
def measure(
    folder: Path, seed: int, rounds: int
) -> tuple[dict[str, dict[str, float]], dict[tuple[str, float, float], float]]:
    """The figures of each kind, and the latencies in ms for each kind, width and scale."""
    figures, calls = {}, {}
    for kind in (SEPARATE, *SHARED):
        files = checkpoints(folder, kind, seed)
        models = {width: load(each) for width, each in files.items()}
        figures[kind] = dict(
            disk_mb=sum(map(file_size, models.values())) / 1e6,
            weights_mb=sum(map(weights_size, models.values())) / 1e6,
            process_mb=in_a_new_process(kind, folder, seed),
            switch_ms=0.0 if kind == SEPARATE else switching_time(models[1.0]),
        )
        config = Config.fromfile(files[1.0][0])
        for scale in SCALES:
            data = images_of(config, scale)
            for width in RESIDENT if kind == SEPARATE else WIDTHS:
                calls[kind, width, scale] = detection(models, kind, width, data)
    found = measure_latency(lambda key, _: calls[key](), [*calls], warmup=1, repeats=rounds)
    return figures, {key: latency.median_ms / IMAGES for key, latency in found.items()}


def images_of(config: Config, scale: float) -> list[dict]:
    """Some validation images behind the test pipeline at a scale, each a batch."""
    data_set = DATASETS.build(config.val_dataloader.dataset)
    pipeline = Compose(scale_pipeline(config.val_dataloader.dataset.pipeline, scale))
    places = np.linspace(0, len(data_set) - 1, IMAGES).astype(int)
    return [pseudo_collate([pipeline(data_set.get_data_info(int(place)))]) for place in places]


def detection(models: Mapping[float, nn.Module], kind: str, width: float, data: list[dict]) -> Callable[[], None]:
    """A call that switches to the width and detects in all images."""

    def call() -> None:
        model = models[width] if kind == SEPARATE else models[1.0]
        if kind != SEPARATE:
            set_width(model, width)
        for batch in data:
            model.test_step(batch)

    return call


def switching_time(model: nn.Module, switches: int = 20) -> float:
    """The median time in ms of a switch to another width."""
    return median(timed(lambda width=width: set_width(model, width)) for width in WIDTHS * switches)


def file_size(model: nn.Module) -> int:
    """Bytes of a checkpoint with the weights only."""
    file = io.BytesIO()
    torch.save(dict(state_dict=model.state_dict()), file)
    return file.tell()


def weights_size(model: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


def in_a_new_process(kind: str, folder: Path, seed: int) -> float:
    """Resident megabytes that a process gains by loading and by detecting at each width."""
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(_resident, (kind, folder, seed))


@torch.no_grad()
def _resident(kind: str, folder: Path, seed: int) -> float:
    register_all_modules()
    files = checkpoints(folder, kind, seed)
    data = images_of(Config.fromfile(files[1.0][0]), 1.0)
    before = status('VmRSS')
    models = {width: load(each) for width, each in files.items()}
    for width in RESIDENT:
        detection(models, kind, width, data)()
    return status('VmRSS') - before


def format_tables(found: Mapping, kept: Mapping) -> str:
    """The figures, then the best metric within the latency of each resident detector."""
    figures, compute = found['figures'], kept['compute']
    epochs = {kind: total_compute(kind, compute) for kind in SHARED}
    epochs[SEPARATE] = sum(compute[f'independent {width:g}'] for width in RESIDENT)
    titles = {
        'on disk, MB': 'disk_mb',
        'weights in memory, MB': 'weights_mb',
        'memory of the process, MB': 'process_mb',
        'switch, ms': 'switch_ms',
    }
    lines = head('', *figures)
    lines.append(line('training, epochs of the stock detector', *(f'{epochs[kind]:.0f}' for kind in figures)))
    for title, key in titles.items():
        lines.append(line(title, *(f'{each[key]:.2f}' for each in figures.values())))
    parts = ['\n'.join(lines)]
    latencies = {(kind, width, scale): value for kind, width, scale, value in found['latencies']}
    seeds = sorted(set.intersection(*(set(kept['runs'][name]) for name in (*SHARED, 'independent 1'))))
    rows = {kind: [_rows(kind, kept['runs'], seed) for seed in seeds] for kind in figures}
    for metric in metrics_in(rows):
        lines = head('within', f'three detectors, {metric}', 'at any scale', *SHARED)
        for width in RESIDENT:
            budget = latencies[SEPARATE, width, 1.0]
            full = cell(np.array([best(each, latencies, SEPARATE, budget, metric, (1.0,)) for each in rows[SEPARATE]]))
            any_scale = [
                cell(np.array([best(each, latencies, kind, budget, metric, SCALES) for each in rows[kind]]))
                for kind in figures
            ]
            lines.append(line(f'{budget:.1f} ms, width {width:g} alone', full, *any_scale))
        parts.append('\n'.join(lines))
    return '\n\n'.join(parts)


def _rows(kind: str, runs: Mapping, seed: str) -> list[dict]:
    names = [kind] if kind in SHARED else [f'independent {width:g}' for width in RESIDENT]
    return [row for name in names for row in runs[name][seed]['rows']]


def best(
    rows: list[dict], latencies: Latencies, kind: str, budget: float, metric: str, scales: tuple[float, ...]
) -> float:
    """The best metric of a run's sub-networks at these scales whose latency is at most 2 % above the budget.

    The tolerance is that of the measurement: equal networks differ by as much.
    """
    return max(
        row.get(metric, 0.0)
        for row in rows
        if row['scale'] in scales and latencies[kind, row['width'], row['scale']] <= 1.02 * budget
    )


if __name__ == '__main__':
    main()
