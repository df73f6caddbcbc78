"""Continue a run with the command that started it: a record of its settings in its work dir."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from mmengine.config import Config

from .atomic_write import write_whole
from .fingerprint import sha256
from .finished import finished_length
from .reading import latest_checkpoint, read_checkpoint

FILE = 'run.json'
SETTINGS = (
    'model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'custom_hooks',
    'randomness', 'test_dataloader', 'test_evaluator', 'test_cfg',
)  # fmt: skip


def record_run(config: Config, checkpoint: str | Path) -> None:
    """Write the settings of a new run to its work dir.

    Args:
        config: The config of the run.
        checkpoint: The weights that it starts from.
    """
    text = json.dumps(_settings(config, checkpoint), indent=1)
    write_whole(Path(config.work_dir) / FILE, lambda part: part.write_text(text))


def check_new_run(work_dir: str | Path) -> None:
    """Check that a new run does not overwrite another one.

    Args:
        work_dir: Folder of the new run.

    Raises:
        ValueError: If it has checkpoints.
    """
    folder = Path(work_dir)
    found = next(
        (path for name in ('last_checkpoint', 'epoch_*.pth', 'iter_*.pth') for path in folder.glob(name)), None
    )
    if found:
        raise ValueError(
            f'{work_dir} has a run already, which wrote {found.name}: continue a run of the same command with '
            '--resume, or choose another --work-dir'
        )


def continue_run(config: Config, checkpoint: str | Path) -> tuple[Config, str | None]:
    """Continue the run in a work dir.

    Args:
        config: The config of the run, as its command makes it.
        checkpoint: The weights that the run has started from.

    Returns:
        A copy of the config, which loads the newest checkpoint of the run, if there is one; and the length of the
        training if it is finished, as ``finished_length``.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If the run had other settings or started from other weights.
    """
    file = Path(config.work_dir) / FILE
    if not file.is_file():
        raise FileNotFoundError(
            f'--resume continues a run of this command, but there is none in {config.work_dir}: it has no {FILE}. '
            'Omit --resume, or pass the --work-dir of the run'
        )
    before, now = json.loads(file.read_text()), _settings(config, checkpoint)
    other = [name for name in now if before.get(name) != now[name]]
    if other:
        raise ValueError(
            f'--resume continues a run of the same command, but that in {config.work_dir} had another '
            f'{", ".join(other)}: repeat its command, or choose another --work-dir'
        )
    config, latest = copy.deepcopy(config), latest_checkpoint(config.work_dir)
    if latest is None:
        return config, None
    finished = finished_length(config.train_cfg, read_checkpoint(latest))
    config.load_from, config.resume = latest, finished is None
    return config, finished


def _settings(config: Config, checkpoint: str | Path) -> dict:
    """The settings that a run keeps, as JSON reads them."""
    settings = {name: config.get(name) for name in SETTINGS}
    return json.loads(json.dumps({**Config(settings).to_dict(), 'CHECKPOINT': sha256([checkpoint])}, default=str))
