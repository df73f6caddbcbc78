"""Make the config of a trained stock detector elastic: mutual, with a short fine-tuning from its checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from mmmutual.config_tree import nested_dicts, type_name
from mmmutual.number_checks import check_whole
from mmmutual.slimming import SlimmingPlan, importance_function

from .fine_tuning import make_fine_tuning
from .mutual_config import MUTUAL_HOOK, SCALES, WIDTHS, has_mutual_hook, make_mutual_with_plan


def make_elastic(
    config: Config,
    checkpoint: str | Path,
    epoch_length: int,
    epochs: int = 1,
    widths: Sequence[float] = WIDTHS,
    scales: Sequence[float] = SCALES,
    scope: str = 'backbone',
    importance: str | None = 'norm_scale',
) -> tuple[Config, SlimmingPlan]:
    """Make a stock config elastic: ``make_fine_tuning``, ``make_mutual_with_plan``, and ordered channels.

    Args:
        config: A stock config of a detector, with training and validation data.
        checkpoint: File with its trained weights, which replace all initial weights.
        epoch_length: Iterations of an epoch, as the function ``epoch_length`` counts them.
        epochs: Epochs to train, a whole number of at least 0.
        widths: As ``make_mutual``.
        scales: As ``make_mutual``.
        scope: As ``make_mutual``.
        importance: A name in ``IMPORTANCES``; None keeps the order of the channels.

    Returns:
        A new config, and the plan of a detector that was built from it.

    Raises:
        ImportError: As ``make_mutual``.
        TypeError: As ``make_mutual``, or if ``epochs`` is not a whole number.
        ValueError: As ``make_mutual`` and ``make_fine_tuning``; if ``epochs`` is negative; if ``importance`` is
            unknown; or if the config is mutual.
    """
    epochs = check_whole(epochs, 'epochs', 0)
    if importance is not None:
        importance_function(importance)
    _check_stock(config)
    stock = make_fine_tuning(without_initial_weights(config), epochs, epoch_length)
    elastic, plan = make_mutual_with_plan(stock, widths, scales, scope)
    if importance is not None:
        order = dict(type='ChannelOrderHook', importance=importance)
        elastic.custom_hooks = [order, *elastic.custom_hooks]
    elastic.load_from, elastic.resume = str(checkpoint), False
    return elastic, plan


def without_initial_weights(config: Config) -> Config:
    """A copy of a config that reads no files with initial weights, since a checkpoint has all weights.

    Args:
        config: A config with a model.

    Returns:
        The copy.
    """
    config = copy.deepcopy(config)
    for part in nested_dicts(config.get('model')):
        if type_name(part.get('init_cfg') or {}) == 'Pretrained':
            part['init_cfg'] = None
        if part.get('pretrained'):
            part['pretrained'] = None
    return config


def _check_stock(config: Config) -> None:
    slimmable = (name for name in map(type_name, nested_dicts(config.get('model'))) if name.startswith('Slimmable'))
    found = next(slimmable, MUTUAL_HOOK if has_mutual_hook(config) else None)
    if found:
        raise ValueError(
            f'config must be a stock config, but it is mutual already, since it has {found}: pass the stock config, or '
            'train the mutual one with tools/train.py and --cfg-options load_from=CHECKPOINT'
        )
