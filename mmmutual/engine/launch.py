"""Preparations of the command-line tools before they start MMEngine's runner."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmmutual.checkpoint.reading import read_data
from mmmutual.config.head_classes import check_head_classes
from mmmutual.config.mask_heads import check_mask_heads
from mmmutual.config_tree import nested_dicts
from mmmutual.datasets import check_data
from mmmutual.datasets.completed_coco import read_completed

from .processes import is_first_process

PACKAGE = Path(__file__).parents[1]
TIMEOUT = 1800  # seconds that processes wait for each other; MMEngine's default


@contextmanager
def clear_errors(only_own: bool = False) -> Iterator[None]:
    """End the program with one sentence instead of a traceback if the user's input is wrong.

    Args:
        only_own: Whether errors that mmmutual did not raise itself are passed on. During a training they are defects,
            for example of the user's own classes, and their traceback is needed.

    Yields:
        Nothing.

    Raises:
        SystemExit: With status 1, on an error that names the user's input.
    """
    try:
        yield
    except (ValueError, TypeError, FileNotFoundError, ImportError, FloatingPointError) as error:
        if not _is_own(error) and (only_own or isinstance(error, FloatingPointError)):
            raise
        sys.stdout.flush()  # in a file together with the log, the error comes last
        print(f'error: {error}', file=sys.stderr)
        raise SystemExit(1) from error


def _is_own(error: Exception) -> bool:
    """Whether it was raised in mmmutual itself, not in a package that mmmutual calls."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return PACKAGE in Path(last.filename).parents


def prepare(config: Mapping, splits: tuple[str, ...]) -> None:
    """Check the requirements of a run before a model is built; in a distributed run the first process checks.

    Afterwards, COCO annotations are completed while they are read (``CompletedCOCO``).

    Args:
        config: An MMDetection config.
        splits: Those of ``'train'``, ``'val'`` and ``'test'`` that the run uses.

    Raises:
        FileNotFoundError: If data is missing.
        ValueError: If the heads do not match the classes, pipelines or metrics; if an annotation file or a file of
            initial weights is damaged; or if the weights contain code.
        ImportError: If the initial weights come from torchvision, which is not installed.
    """
    read_completed()
    if not is_first_process():
        return
    check_head_classes(config, splits)
    check_mask_heads(config, splits)
    check_data(config, splits)
    if 'train' in splits:  # even if a checkpoint replaces the initial weights: MMEngine loads both
        _check_torchvision(config)
        for path in _initial_weights(config['model']):
            read_data(path)


def build_runner(config: Config) -> Runner:
    """Build MMEngine's runner of a config, or the one that ``runner_type`` names, and connect its processes.

    Args:
        config: An MMDetection config with a ``launcher``; without GPUs its ``model_wrapper_cfg`` is changed.

    Returns:
        The runner.
    """
    join_processes(config)
    return RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)


def join_processes(config: Config) -> None:
    """Connect the processes of a distributed run without GPUs; changes the config in place.

    MMEngine connects the processes in all other cases, but needs GPUs. The processes wait for each other for
    ``env_cfg.dist_cfg.timeout`` of the config, in seconds.

    Args:
        config: An MMDetection config with a ``launcher``; its ``model_wrapper_cfg`` is changed.
    """
    if config.launcher != 'pytorch' or get_device() != 'cpu':
        return
    if not torch.distributed.is_initialized():  # a second runner of a program joins no processes
        timeout = config.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', TIMEOUT)
        torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=timeout))
    stock = dict(broadcast_buffers=False, find_unused_parameters=config.get('find_unused_parameters', False))
    wrapper = config.get('model_wrapper_cfg') or dict(type='MMDistributedDataParallel', **stock)
    config.model_wrapper_cfg = {**wrapper, 'device_ids': None}


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
            'torchvision that belongs to your torch, pass a file with --cfg-options '
            'model.backbone.init_cfg.checkpoint=FILE, or start without them (from a checkpoint or random weights) with '
            '--cfg-options model.backbone.init_cfg=None'
        ) from error


def _initial_weights(model: Mapping) -> Iterator[str]:
    """Local files with the initial weights of the parts of a model; MMEngine's reader would run code in them."""
    for part in nested_dicts(model):
        checkpoint = part.get('checkpoint')
        if part.get('type') == 'Pretrained' and isinstance(checkpoint, str) and Path(checkpoint).is_file():
            yield checkpoint
