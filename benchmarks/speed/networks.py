"""The slimmable detector and the networks for comparison, all with the same random weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmmutual.deploy import narrow_
from mmmutual.layers import SlimBatchNorm2d

from .per_layer import use_per_layer_widths_


def without_pretraining(config: Config) -> Config:
    """The config without the initial checkpoint of the backbone, and without synchronised norms."""
    config = config.copy()
    config.model.backbone.init_cfg = None
    if config.model.backbone.get('norm_cfg', {}).get('type') == 'SyncBN':
        config.model.backbone.norm_cfg = dict(config.model.backbone.norm_cfg, type='BN')
    return config


def slimmable(config: Config, device: str) -> nn.Module:
    """The slimmable detector, with statistics at every width, in evaluation mode."""
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    pretend_calibrated(model)
    model.to(device).eval()
    return model


def pretend_calibrated(model: nn.Module) -> None:
    """Mark the statistics of every width as ready: the time does not depend on their values."""
    for layer in model.modules():
        if isinstance(layer, SlimBatchNorm2d):
            for width in layer.widths:
                mean, var, _ = layer.statistics(width)
                layer.set_statistics(width, mean.clone(), var.clone())


def static(model: nn.Module, width: float, device: str) -> nn.Module:
    """The stock detector of a width, with the weights of the slimmable detector at that width."""
    detector = copy.deepcopy(model).cpu()
    narrow_(detector, width)
    detector.to(device).eval()
    return detector


def per_layer(model: nn.Module, widths: Sequence[float], device: str) -> nn.Module:
    """The stock detector with the authors' layers in backbone and neck, and the slimmable detector's weights."""
    detector = static(model, 1.0, 'cpu')
    use_per_layer_widths_(detector, widths)
    detector.to(device).eval()
    return detector
