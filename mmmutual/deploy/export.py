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

TOLERANCE = 1e-5  # relative; on CPUs the outputs have been equal bit for bit
NAMES = ('detector.py', 'detector.pth')


@dataclass(frozen=True)
class Exported:
    """A sub-network as a narrow detector of stock layers.

    Attributes:
        detector: The model that the files give, in evaluation mode.
        config: Its config.
        config_path: Where the config was written.
        checkpoint_path: Where the weights were written.
        difference: The largest difference to the sub-network's outputs; 0.0 means equal bit for bit.
        is_stock: Whether the config is a stock one; if False, mmmutual has to be installed where it is used.
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

    They need no mmmutual if a stock config has the channels of the sub-network. If none has, the config is that of the
    slimmable detector as a ``NarrowDetector``, which mmmutual builds. In either case all layers are stock ones.

    The detector is built again from the files and runs on a random image beside the sub-network. The files get their
    names only if it computes the same.

    Args:
        config: Config of the slimmable detector.
        model: The detector with its trained weights, on the CPU.
        width: Width multiplier in (0, 1].
        scale: Input scale in (0, 1].
        out_dir: Folder for ``detector.py`` and ``detector.pth``.
        meta: ``meta`` of the source's checkpoint; its ``dataset_meta`` goes along.

    Returns:
        The narrow detector and where it was written.

    Raises:
        TypeError: If ``width`` or ``scale`` is not a number.
        ValueError: If one of them is out of range, if a batch norm has no statistics for the width, if the pipelines
            have no size to scale, if a part outside the model has no stock counterpart, if the model is not the one
            that the config describes or has no backbone, if building it has changed the config, or if the outputs
            differ.
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
        f'the exported detector does not compute what the sub-network of width {width:g} does: their outputs differ by '
        f'{difference:.1e}. Nothing was written'
    )


@contextmanager
def _evaluating(model: nn.Module, width: float) -> Iterator[None]:
    """Evaluation mode at a width for a while; what is built meanwhile leaves the random numbers as they were."""
    training = model.training
    model.eval()
    try:
        with use_width(model, width), torch.random.fork_rng(devices=[]):
            yield
    finally:
        model.train(training)


def _candidates(source: dict, wanted: dict[str, torch.Size], width: float) -> Iterator[tuple[dict, bool]]:
    """Configs of models whose weights have the shapes that are wanted; whether they are stock ones, which go first."""
    full = stock_types(source)
    for config in () if any(own_parts(full)) else narrow_configs(full, width):
        with suppress(*ERRORS):  # channels that a class does not accept, or a class that mmdet lacks
            if shapes(MODELS.build(Config(dict(model=copy.deepcopy(config))).model)) == wanted:
                yield config, True
    yield narrow_detector(source, width), False


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    """The names and shapes of a model's weights and statistics."""
    return {name: value.shape for name, value in model.state_dict().items()}


def _read(config_path: Path, checkpoint_path: Path) -> nn.Module:
    """The detector that the written files give."""
    detector = MODELS.build(Config.fromfile(config_path).model)
    # This process has just written the file, with whatever the data set's meta holds: so it is read as it is.
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
    """Give a finished file its name, after its content has reached the disk."""
    with open(part, 'rb') as file:
        os.fsync(file.fileno())
    return part.rename(out_dir / part.name)


def _model_config(config: Mapping, model: nn.Module) -> dict:
    """The model's config, with padding to the sides that the model needs: images at a scale need not fit."""
    settings = {key: config[key] for key in ('model', 'data_preprocessor') if config.get(key) is not None}
    settings = Config(settings).to_dict()
    source = settings['model']
    if 'backbone' not in source:
        raise ValueError(f'{source["type"]} has no backbone: export the detector inside of it')
    changed = [key for node in nested_dicts(source) for key, value in node.items() if isinstance(value, torch.Tensor)]
    if changed:
        raise ValueError(
            f'building the model has changed {changed[0]} in config.model to a tensor, which cannot be written. Build '
            'from copy.deepcopy(config.model)'
        )
    if 'data_preprocessor' in settings:  # as the runner does it
        source.setdefault('data_preprocessor', settings['data_preprocessor'])
    present = getattr(model.data_preprocessor, 'pad_size_divisor', None)
    fit_padding(model)
    needed = getattr(model.data_preprocessor, 'pad_size_divisor', None)
    if needed != present:
        source['data_preprocessor']['pad_size_divisor'] = needed
    return source
