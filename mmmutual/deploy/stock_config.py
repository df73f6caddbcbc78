"""The config around an exported detector: the data, the evaluation and what stock mmdet needs to run them."""

from __future__ import annotations

from collections.abc import Mapping

from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config

from mmmutual.config import scale_pipeline
from mmmutual.layers import check_ratio

from .stock_types import own_parts, stock_types

KEPT = (
    'default_scope',
    'custom_imports',
    'val_dataloader',
    'val_evaluator',
    'val_cfg',
    'test_dataloader',
    'test_evaluator',
    'test_cfg',
    'default_hooks',
    'env_cfg',
    'visualizer',
    'log_processor',
    'log_level',
)  # what a test or an inference reads; the recipe of a mutual training is none for a single network
SCALED = ('val_dataloader', 'test_dataloader')
NEEDED = 'mmmutual.deploy'  # what a config imports whose detector mmmutual builds


def stock_settings(config: Mapping, scale: float = 1.0) -> Config:
    """All of a sub-network's stock config except the model.

    Args:
        config: Config of the slimmable detector.
        scale: Input scale in (0, 1]: the factor of the sizes in the validation and test pipelines.

    Returns:
        A config without anything of mmmutual and without the training; ``test_pipeline`` is that of the test data.

    Raises:
        TypeError: If ``scale`` is not a number.
        ValueError: If it is out of range, if the pipelines have no size to scale, or if a part has no stock
            counterpart.
    """
    scale = check_ratio(scale, 'scale')
    stock = {key: config[key] for key in KEPT if config.get(key) is not None}
    if 'test_dataloader' not in stock:
        raise ValueError('the config has no test_dataloader, whose pipeline the exported detector needs')
    for key in SCALED:
        if key in stock:
            stock[key] = scale_pipeline(stock[key], scale)
    stock = stock_types(Config(stock).to_dict())
    _replace_own_imports(stock)
    stock['test_pipeline'] = get_test_pipeline_cfg(Config(stock))  # where mmdeploy looks
    for path, name in own_parts(stock):
        raise ValueError(f'{path} is a {name}, which has no stock counterpart. Leave it out of the config to export')
    return Config(stock)


def with_model(settings: Config, model: Mapping, stock: bool) -> Config:
    """The settings with a model.

    Args:
        settings: As ``stock_settings`` returns them.
        model: Config of the detector.
        stock: Whether mmdet builds it without mmmutual, which the config imports otherwise.

    Returns:
        The config.
    """
    config = {**settings.to_dict(), 'model': model}
    if not stock:
        _replace_own_imports(config, NEEDED)
    return Config(config)


def _replace_own_imports(config: dict, *needed: str) -> None:
    """Let a config import what it did, except mmmutual, and what is needed."""
    custom = config.pop('custom_imports', {})
    imports = custom.get('imports', [])
    imports = [imports] if isinstance(imports, str) else imports
    others = [*needed, *(name for name in imports if name.split('.')[0] != 'mmmutual')]
    if others:
        config['custom_imports'] = {'allow_failed_imports': False, **custom, 'imports': others}
