"""Write a sub-network as a narrow mmdet detector: config and checkpoint."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmmutual.config_tree import nested_dicts
from mmmutual.engine.image_sides import fit_padding
from mmmutual.layers import check_ratio, use_width
from mmmutual.slimming.dry_run import ERRORS

from .narrow import narrow_
from .outputs import largest_difference
from .stock_channels import narrow_configs
from .stock_config import stock_settings, with_model
from .stock_types import narrow_detector, own_parts, stock_types

TOLERANCE = 1e-5  # relative; on all tested CPUs the outputs are equal bit for bit
NAMES = ('detector.py', 'detector.pth')


@dataclass(frozen=True)
class Exported:
    """A sub-network as a narrow detector of stock layers.

    Attributes:
        detector: The model built from the files, in evaluation mode.
        config: Its config.
        config_path: Path of the written config.
        checkpoint_path: Path of the written weights.
        difference: The largest difference from the sub-network's outputs; 0.0 means equal bit for bit.
        is_stock: Whether the config is a stock config; if False, using it needs mmmutual.
    """

    detector: nn.Module
    config: Config
    config_path: Path
    checkpoint_path: Path
    difference: float
    is_stock: bool


def export_subnet(
    config: Mapping, model: nn.Module, width: float, scale: float, out_dir: str | Path, meta: Mapping | None = None
) -> Exported:
    """Write a sub-network as an mmdet config and checkpoint.

    The files do not need mmmutual if a stock config can describe the channels of the sub-network. Otherwise, the config
    is that of the slimmable detector as a ``NarrowDetector``, which mmmutual builds. In both cases all layers are stock
    layers.

    The detector is built from the files and compared with the sub-network on a random image. The files receive their
    final names only if the outputs agree.

    Args:
        config: Config of the slimmable detector.
        model: The detector with its trained weights, on the CPU.
        width: Width multiplier in (0, 1].
        scale: Input scale in (0, 1].
        out_dir: Folder for ``detector.py`` and ``detector.pth``.
        meta: ``meta`` of the source checkpoint; its ``dataset_meta`` is copied.

    Returns:
        The narrow detector and its files.

    Raises:
        TypeError: If ``width`` or ``scale`` is not a number.
        ValueError: If one of them is out of range, if a batch norm has no statistics for the width, if the pipelines
            have no size to scale, if a part outside the model has no stock counterpart, if the config does not describe
            the model, if the model has no backbone, if building it has changed the config, or if the outputs differ.
    """
    width = check_ratio(width)
    settings = stock_settings(config, scale)
    narrow = copy.deepcopy(model)
    narrow_(narrow, width)
    source = _model_config(config, model)
    kept = {'dataset_meta': meta['dataset_meta']} if meta and 'dataset_meta' in meta else {}
    checkpoint = dict(meta={**kept, 'subnet': dict(width=width, scale=scale)}, state_dict=narrow.state_dict())
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    with _evaluating(model, width), tempfile.TemporaryDirectory(dir=out_dir, prefix='.part_') as folder:
        parts = [Path(folder) / name for name in NAMES]
        torch.save(checkpoint, parts[1])
        for model_config, is_stock in _candidates(source, shapes(narrow), width):
            content = with_model(settings, model_config, is_stock)
            content.dump(str(parts[0]))
            detector = _read(*parts)
            difference = largest_difference(model, detector)
            if difference <= TOLERANCE:
                config_path, weights_path = (_publish(part, out_dir) for part in parts)
                return Exported(detector, content, config_path, weights_path, difference, is_stock)
    raise ValueError(
        f'the outputs of the exported detector and of the sub-network of width {width:g} differ by {difference:.1e}, '
        f'more than {TOLERANCE}. Nothing was written'
    )


@contextmanager
def _evaluating(model: nn.Module, width: float) -> Iterator[None]:
    """Switch to evaluation mode at a width for a while, and keep the state of the random numbers."""
    training = model.training
    model.eval()
    try:
        with use_width(model, width), torch.random.fork_rng(devices=[]):
            yield
    finally:
        model.train(training)


def _candidates(source: dict, wanted: dict[str, torch.Size], width: float) -> Iterator[tuple[dict, bool]]:
    """Configs of models whose weights have the given shapes, stock configs first; and whether they are stock."""
    full = stock_types(source)
    for config in () if any(own_parts(full)) else narrow_configs(full, width):
        with suppress(*ERRORS):  # a class may reject the channels, or mmdet may lack the class
            if shapes(MODELS.build(Config(dict(model=copy.deepcopy(config))).model)) == wanted:
                yield config, True
    yield narrow_detector(source, width), False


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    """The names and shapes of a model's weights and statistics."""
    return {name: value.shape for name, value in model.state_dict().items()}


def _read(config_path: Path, checkpoint_path: Path) -> nn.Module:
    """Build the detector from the written files."""
    detector = MODELS.build(Config.fromfile(config_path).model)
    # This process has just written the file, and the data set's meta may have any type: hence no weights_only.
    state = torch.load(checkpoint_path, map_location='cpu', weights_only=False)['state_dict']
    built = shapes(detector)
    for name, value in state.items():
        if built.get(name) != value.shape:
            raise ValueError(
                f'the config does not describe the model: {name} has the shape {tuple(value.shape)} in the narrow '
                f'model, but {tuple(built[name]) if name in built else "nothing"} by the config. Nothing was written'
            )
    detector.load_state_dict(state)
    return detector.eval()


def _publish(part: Path, out_dir: Path) -> Path:
    """Rename a finished file to its final name after its content has reached the disk."""
    with open(part, 'rb') as file:
        os.fsync(file.fileno())
    return part.rename(out_dir / part.name)


def _model_config(config: Mapping, model: nn.Module) -> dict:
    """The model's config, with padding to the sides that the model needs, since scaled images may have other sides."""
    settings = {key: config[key] for key in ('model', 'data_preprocessor') if config.get(key) is not None}
    settings = Config(settings).to_dict()
    source = settings['model']
    if 'backbone' not in source:
        raise ValueError(f'{source["type"]} has no backbone: export the detector inside it')
    changed = [key for node in nested_dicts(source) for key, value in node.items() if isinstance(value, torch.Tensor)]
    if changed:
        raise ValueError(
            f'building the model has changed {changed[0]} in config.model to a tensor, which cannot be written. Build '
            'from copy.deepcopy(config.model)'
        )
    if 'data_preprocessor' in settings:  # as MMEngine's runner does
        source.setdefault('data_preprocessor', settings['data_preprocessor'])
    present = getattr(model.data_preprocessor, 'pad_size_divisor', None)
    fit_padding(model)
    needed = getattr(model.data_preprocessor, 'pad_size_divisor', None)
    if needed != present:
        source['data_preprocessor']['pad_size_divisor'] = needed
    return source
