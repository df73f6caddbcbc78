"""What the command-line tools do before they hand over to MMEngine's runner."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mmmutual.datasets import check_data


@contextmanager
def clear_errors() -> Iterator[None]:
    """End the program with one sentence instead of a traceback where the user's input is at fault.

    Yields:
        Nothing.

    Raises:
        SystemExit: With status 1, on an error that names the user's input.
    """
    try:
        yield
    except (ValueError, TypeError, FileNotFoundError, ImportError) as error:
        print(f'error: {error}', file=sys.stderr)
        raise SystemExit(1) from error


def prepare(config: Mapping, splits: tuple[str, ...]) -> None:
    """Check what a run needs before a model is built; in a distributed run the first process checks.

    Args:
        config: An MMDetection config.
        splits: Which of ``'train'``, ``'val'``, ``'test'`` the run uses.

    Raises:
        FileNotFoundError: If data is missing.
        ValueError: If an annotation file is damaged.
        ImportError: If the initial weights come from torchvision, which is not there.
    """
    if int(os.environ.get('RANK', 0)) > 0:
        return
    check_data(config, splits)
    if 'train' in splits:  # even if a checkpoint replaces the initial weights: MMEngine loads both
        _check_torchvision(config)


def _check_torchvision(config: Mapping) -> None:
    init_cfg = config['model'].get('backbone', {}).get('init_cfg')
    checkpoint = init_cfg.get('checkpoint') if isinstance(init_cfg, Mapping) else None
    if not str(checkpoint).startswith('torchvision://'):
        return
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f'the initial weights {checkpoint} need torchvision, which does not import here ({error}). Install the '
            'torchvision that belongs to your torch, give a file with --cfg-options '
            'model.backbone.init_cfg.checkpoint=FILE, or do without them (from a checkpoint or random weights) with '
            '--cfg-options model.backbone.init_cfg=None'
        ) from error
