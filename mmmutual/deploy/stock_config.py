"""The config around an exported detector: the settings with which stock mmdet runs the data and the evaluation."""

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
)  # for tests and inference; the recipe of a mutual training does not suit a single network
SCALED = ('val_dataloader', 'test_dataloader')
NEEDED = 'mmmutual.deploy'  # imported by a config whose detector mmmutual builds


def stock_settings(config: Mapping, scale: float = 1.0) -> Config:
    """All of a sub-network's stock config except the model.

    Args:
        config: Config of the slimmable detector.
        scale: Input scale in (0, 1]: the factor of the sizes in the validation and test pipelines.

    Returns:
        A config without types of mmmutual and without the training; ``test_pipeline`` is the pipeline of the test data.

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
    stock['test_pipeline'] = get_test_pipeline_cfg(Config(stock))  # mmdeploy reads it here
    for path, name in own_parts(stock):
        raise ValueError(f'{path} is a {name}, which has no stock counterpart. Leave it out of the config to export')
    return Config(stock)


def with_model(settings: Config, model: Mapping, stock: bool) -> Config:
    """Add a model to the settings.

    Args:
        settings: As ``stock_settings`` returns them.
        model: Config of the detector.
        stock: Whether mmdet builds it without mmmutual; if not, the config imports mmmutual.

    Returns:
        The config.
    """
    config = {**settings.to_dict(), 'model': model}
    if not stock:
        _replace_own_imports(config, NEEDED)
    return Config(config)


def _replace_own_imports(config: dict, *needed: str) -> None:
    """Replace the imports of mmmutual in a config by the needed modules."""
    custom = config.pop('custom_imports', {})
    imports = custom.get('imports', [])
    imports = [imports] if isinstance(imports, str) else imports
    others = [*needed, *(name for name in imports if name.split('.')[0] != 'mmmutual')]
    if others:
        config['custom_imports'] = {'allow_failed_imports': False, **custom, 'imports': others}
