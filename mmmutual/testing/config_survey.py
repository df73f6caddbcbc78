"""Choose one config of each folder of mmdet's configs, and check it in a separate process."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Mapping
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from mmmutual.config_tree import type_name

from .config_check import check_config
from .small_config import CONFIGS

SMALL = ('r50', 'tiny', '-t_', '-t-', '-b0', 'ssd300')  # in the names of small models, the preferred ones first
TIMEOUT = 600  # seconds for one config


class Candidate(NamedTuple):
    """The config of a folder that is checked.

    Attributes:
        config: Its name, as ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``.
        detector: The type of the model; empty if the config cannot be read here.
        backbone: The type of the backbone; empty if there is none.
    """

    config: str
    detector: str = ''
    backbone: str = ''


class Outcome(NamedTuple):
    """The result of checking a config.

    Attributes:
        reason: The reason why the config does not pass; empty if it passes.
        share: The slimmable share of the detector's multiply-adds, in [0, 1]; None if the config does not pass.
        remaining: The share of the multiply-adds that remains at width 0.25, in (0, 1]; None if it does not pass.
    """

    reason: str
    share: float | None = None
    remaining: float | None = None


@cache
def families() -> dict[str, Candidate]:
    """The config of each folder of mmdet that has configs of models.

    A config of one model is preferred to one of several models, and a ResNet-50 or another small model to a large one.
    """
    folders = sorted(path for path in CONFIGS.iterdir() if path.is_dir() and path.name != '_base_')
    found = {folder.name: _choose(folder) for folder in folders}
    return {name: candidate for name, candidate in found.items() if candidate}


def _choose(folder: Path) -> Candidate | None:
    others, unreadable = [], []
    for path in sorted(folder.rglob('*.py'), key=lambda path: _preference(path.relative_to(folder))):
        name = f'mmdet::{path.relative_to(CONFIGS)}'
        try:
            model = Config.fromfile(path).get('model')
        except (ImportError, OSError, KeyError, AttributeError):  # it needs a missing package, or has no settings
            unreadable.append(Candidate(name))
            continue
        if model and 'backbone' in model:
            return Candidate(name, type_name(model), type_name(model['backbone']))
        if model:
            inner = model.get('detector')
            backbone = inner.get('backbone') if isinstance(inner, Mapping) else None
            others.append(Candidate(name, type_name(model), type_name(backbone) if backbone else ''))
    return next(iter(others + unreadable), None)


def _preference(path: Path) -> tuple[int, int, Path]:
    size = min([index for index, part in enumerate(SMALL) if part in path.name] or [len(SMALL)])
    return len(path.parts), size, path  # configs in folders inside are special: other tasks, other data


def outcome(name: str, scope: str = 'backbone') -> Outcome:
    """Check a config in a separate process, which releases its memory at its end.

    Args:
        name: A config such as ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``.
        scope: The scope, ``'backbone'`` or ``'detector'``.

    Returns:
        Whether the config passes, and how much of it slims.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context('fork').Process(target=_report, args=(name, scope, theirs))
    process.start()
    theirs.close()
    if not ours.poll(TIMEOUT):
        process.kill()
        return Outcome(f'took longer than {TIMEOUT} s')
    try:
        return ours.recv()
    except EOFError:
        return Outcome('the process was killed, perhaps for its memory')
    finally:
        process.join()


def _report(name: str, scope: str, pipe: Connection) -> None:
    try:
        slims = check_config(name, scope)
    except Exception as error:  # the table lists whatever a config fails with
        traceback.print_exc()
        line = (str(error).splitlines() or [''])[0]
        known = isinstance(error, (ImportError, ValueError))
        pipe.send(Outcome(line if known else f'{type(error).__name__}: {line}'))
    else:
        pipe.send(Outcome('', *slims))
