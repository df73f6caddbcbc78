"""Set up automatic mixed precision in a config, for the option ``--amp`` of the tools."""

from __future__ import annotations

import logging

from mmengine.config import Config
from mmengine.logging import print_log

from mmmutual.config_tree import type_name


def use_mixed_precision(config: Config) -> None:
    """Set up ``--amp``, in place; a config that sets up mixed precision itself stays as it is.

    Args:
        config: A config with an ``optim_wrapper``.

    Raises:
        ValueError: If its optimizer wrapper is neither ``OptimWrapper`` nor ``AmpOptimWrapper``.
    """
    wrapper = config.optim_wrapper
    kind = type_name(wrapper) or 'OptimWrapper'
    if kind == 'AmpOptimWrapper':
        loss_scale = wrapper.get('loss_scale')
        message = f'--amp changes nothing: the config has an AmpOptimWrapper, with {loss_scale=}'
        print_log(message, logger='current', level=logging.WARNING)
    elif kind == 'OptimWrapper':
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
    else:
        raise ValueError(
            f'--amp replaces OptimWrapper by AmpOptimWrapper, but the config has optim_wrapper.type={kind!r}: omit '
            '--amp, and set up mixed precision in the config'
        )
