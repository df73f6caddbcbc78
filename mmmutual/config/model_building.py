"""Build the model of a config, and check that its parts match."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from .channel_check import check_channels
from .config_file import require
from .required_packages import check_packages


def build_model(config: Config | Mapping) -> nn.Module:
    """Build the model of a config, and check that its parts match.

    Args:
        config: Config of a detector or a classifier, which does not change; its ``default_scope`` becomes the active
            one.

    Returns:
        The model, on the CPU, with random weights.

    Raises:
        ImportError: If the model needs a package that is not installed.
        TypeError: If a class does not have an argument.
        ValueError: If a class is not registered or rejects an argument, or if a layer is built for another number of
            channels than it receives.
    """
    require(config, 'model')
    register_all_modules(init_default_scope=False)
    init_default_scope(config.get('default_scope') or 'mmdet')
    settings = copy.deepcopy(config['model'])  # building changes a config
    if config.get('data_preprocessor') is not None:  # as MMEngine's runner does
        settings.setdefault('data_preprocessor', config['data_preprocessor'])
    check_packages(settings)
    try:
        model = MODELS.build(settings)
    except (AssertionError, AttributeError, IndexError, KeyError, NotImplementedError) as error:
        reason = (str(error).strip('\'"').splitlines() or ['no reason given'])[0]
        raise ValueError(f'the model of the config cannot be built: {type(error).__name__}: {reason}') from error
    check_channels(model)
    return model
