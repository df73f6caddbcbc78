"""Write a sub-network as a stock mmdet detector: config and checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmmutual.engine.image_sides import fit_padding
from mmmutual.files import write_whole
from mmmutual.layers import use_width

from .outputs import largest_difference
from .stock_config import stock_config
from .weights import narrow_state_dict

TOLERANCE = 1e-5  # relative; on CPUs the outputs have been equal bit for bit


@dataclass(frozen=True)
class Exported:
    """A sub-network as a stock detector.

    Attributes:
        detector: The stock model, in evaluation mode.
        config: Its config.
        config_path: Where the config was written.
        checkpoint_path: Where the weights were written.
        difference: The largest difference to the sub-network's outputs; 0.0 means equal bit for bit.
    """

    detector: nn.Module
    config: Config
    config_path: Path
    checkpoint_path: Path
    difference: float


def export_subnet(
    config: Mapping, model: nn.Module, width: float, scale: float, out_dir: str | Path, meta: Mapping | None = None
) -> Exported:
    """Write a sub-network as a stock mmdet config and checkpoint that need no mmmutual.

    Both detectors run on a random image first, and nothing is written unless they compute the same. Files appear under
    their names only when they are whole.

    Args:
        config: Config of the slimmable detector.
        model: The detector with its trained weights, on the CPU.
        width: Width multiplier in (0, 1].
        scale: Input scale in (0, 1].
        out_dir: Folder for ``detector.py`` and ``detector.pth``.
        meta: ``meta`` of the source's checkpoint; its ``dataset_meta`` goes along.

    Returns:
        The stock detector and where it was written.

    Raises:
        TypeError: As :func:`~mmmutual.deploy.stock_config`.
        ValueError: As :func:`~mmmutual.deploy.stock_config` and :func:`~mmmutual.deploy.narrow_state_dict`, or if the
            outputs differ.
    """
    stock = stock_config(config, width, scale)
    _pad_alike(stock, model)
    detector = MODELS.build(stock.model)
    detector.load_state_dict(narrow_state_dict(model, detector, width))
    detector.eval()
    training = model.training
    model.eval()
    with use_width(model, width):
        difference = largest_difference(model, detector)
    model.train(training)
    if difference > TOLERANCE:
        raise ValueError(
            f'the stock detector does not compute what the sub-network of width {width:g} does: their outputs differ '
            f'by {difference:.1e}. Nothing was written'
        )
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    kept = {'dataset_meta': meta['dataset_meta']} if meta and 'dataset_meta' in meta else {}
    content = dict(meta={**kept, 'subnet': dict(width=width, scale=scale)}, state_dict=detector.state_dict())
    checkpoint_path = write_whole(out_dir / 'detector.pth', lambda path: torch.save(content, path))
    config_path = write_whole(out_dir / 'detector.py', lambda path: stock.dump(str(path)))
    return Exported(detector, stock, config_path, checkpoint_path, difference)


def _pad_alike(stock: Config, model: nn.Module) -> None:
    """Let the stock detector pad images to the sides that the model needs; those at a scale need not fit."""
    present = getattr(model.data_preprocessor, 'pad_size_divisor', None)
    fit_padding(model)
    needed = getattr(model.data_preprocessor, 'pad_size_divisor', None)
    if needed != present:
        stock.model.data_preprocessor.pad_size_divisor = needed
