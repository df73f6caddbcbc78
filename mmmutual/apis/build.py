"""A config's model, built and checked before MMEngine makes a folder or a log."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping

from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope
from torch import nn

from mmmutual.engine import MutualLearningHook
from mmmutual.layers import check_ratios, use_width

from .channel_check import check_channels, check_colors


def build_model(config: Config | Mapping) -> nn.Module:
    """Build the model of a config, and check that its parts fit each other.

    Args:
        config: Config of a detector or a classifier, which does not change; its ``default_scope`` becomes the active
            one.

    Returns:
        The model, on the CPU, with random weights.

    Raises:
        TypeError: If a class does not have an argument.
        ValueError: If a class is not registered or refuses an argument, or if a layer is built for another number of
            channels than it gets.
    """
    register_all_modules(init_default_scope=False)
    init_default_scope(config.get('default_scope') or 'mmdet')
    settings = copy.deepcopy(config['model'])  # building changes a config
    if config.get('data_preprocessor') is not None:  # as the runner does it
        settings.setdefault('data_preprocessor', config['data_preprocessor'])
    try:
        model = MODELS.build(settings)
    except (AssertionError, AttributeError, IndexError, KeyError, NotImplementedError) as error:
        reason = (str(error).strip('\'"').splitlines() or ['no reason given'])[0]
        raise ValueError(f'the model of the config cannot be built: {type(error).__name__}: {reason}') from error
    check_channels(model)
    return model


def check_model(config: Config | Mapping, splits: tuple[str, ...]) -> nn.Module | None:
    """Build the model once before a run makes folders and logs; in a distributed run the first process does.

    Args:
        config: As :func:`build_model`.
        splits: Which of ``'train'``, ``'val'``, ``'test'`` the run uses: images must have the channels of the model.

    Returns:
        The model; None in the other processes of a distributed run.

    Raises:
        TypeError: As :func:`build_model`, or if widths or scales are not numbers.
        ValueError: As :func:`build_model`, or if images have other channels than the model, or for widths or scales
            that the model cannot be trained or evaluated at.
    """
    if int(os.environ.get('RANK', 0)) > 0:
        return None
    model = build_model(config)
    check_colors(config, model, splits)
    _check_subnets(config, model, splits)
    return model


def _check_subnets(config: Config | Mapping, model: nn.Module, splits: tuple[str, ...]) -> None:
    """Check what the settings of this project's hooks and loops say themselves; MMEngine builds them after the log."""
    for settings in config.get('custom_hooks') or [] if 'train' in splits else []:
        kind = HOOKS.get(settings['type']) if isinstance(settings.get('type'), str) else settings.get('type')
        if kind is None or kind.__module__.split('.')[0] != 'mmmutual':
            continue
        hook = HOOKS.build(copy.deepcopy(settings))
        for width in hook.sampler.widths if isinstance(hook, MutualLearningHook) else ():
            with use_width(model, width):
                pass
    for split in splits:
        loop = config.get(f'{split}_cfg') or {}
        if loop.get('type') in ('SubnetValLoop', 'SubnetTestLoop'):
            check_ratios(loop.get('widths', ()), f'widths of {split}_cfg')
            check_ratios(loop.get('scales', (1.0,)), f'scales of {split}_cfg')
