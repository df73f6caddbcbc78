"""Convert published slimmable weights to checkpoints of mmmutual's backbones.

The files of the two repositories (see ``mmmutual.checkpoint.published_layout``) differ in their keys:

- Slimmable networks (``models/s_*.py``) have statistics and affine parameters for each width, as SwitchableBN.
- US-Nets and MutualNet have shared affine parameters and statistics for each listed width, as SlimBN.
- The last norm of MobileNetV2 is an ordinary norm, so all widths use the same statistics in it.
- MutualNet recomputes the statistics of a width before it is evaluated, and then resets those of all other widths.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from .published_layout import Layer, channels_at, published_layers, round_as_published_
from .reading import MAX_NAMED, read_data

ARCHITECTURES: dict[int, tuple[str, dict]] = {  # inputs of the classifier: name, config of the backbone
    2048: ('ResNet-50', dict(type='SlimmableResNet', depth=50)),
    1024: ('MobileNetV1', dict(type='SlimmableMobileNetV1')),
    1280: ('MobileNetV2', dict(type='SlimmableMobileNetV2')),
}
CLASSIFIER = 'classifier.0.weight'
GRID = tuple(number / 40 for number in range(40, 0, -1))  # published widths are multiples of 0.025
AFFINE, MOMENTS = ('weight', 'bias'), ('running_mean', 'running_var')


@dataclass(frozen=True)
class PublishedWeights:
    """Converted weights.

    Attributes:
        architecture: Its name in the papers.
        backbone: Config of the backbone, without initial weights.
        state_dict: The weights under ``backbone.`` and ``head.fc.``, as mmpretrain's ``ImageClassifier`` has them.
        ready: Widths that have statistics, largest first.
        left_out: Other widths that the file lists, with the reason why their statistics cannot be used.
    """

    architecture: str
    backbone: dict
    state_dict: dict[str, Tensor]
    ready: tuple[float, ...]
    left_out: dict[float, str]


def convert_published(path: str | Path) -> PublishedWeights:
    """Convert a file of MutualNet or slimmable_networks.

    Args:
        path: ResNet-50, MobileNetV1 or V2 at full width 1.0, written by ``torch.save``.

    Returns:
        The weights of mmmutual's backbone and of the classifier.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, contains more than data, is of another network, or is incomplete.
    """
    state = _read(path)
    name, config = _architecture(state, path)
    switchable = 'features.0.1.bn.0.weight' in state
    if switchable:
        config = dict(config, norm_cfg=dict(type='SwitchableBN'))
    with torch.device('meta'):
        backbone = MODELS.build(dict(config, widths=(1.0,)))
    layers = published_layers(backbone)
    ours = {width: channels_at(backbone, layers, width) for width in GRID}
    round_as_published_(backbone)
    theirs = {width: channels_at(backbone, layers, width) for width in GRID}
    widths = _listed_widths(state, layers, theirs)
    expected = _shapes(backbone, layers, [theirs[width] for width in widths], switchable)
    _check(state, dict(expected, **_classifier(state)), name, path)
    if 1.0 not in widths:
        raise ValueError(
            f'{path} has batch-norm lists for the widths {widths}, but none for 1.0: a part of it is missing'
        )
    left_out = {width: 'other channels' for width in widths if theirs[width] != ours[width]}
    resets = {width: 'reset' for index, width in enumerate(widths) if _is_reset(state, layers, index)}
    left_out.update(resets)
    ready = sorted(set(widths) - set(left_out), reverse=True)
    kept = tuple(sorted((width for width in widths if theirs[width] == ours[width]), reverse=True))
    backbone = MODELS.build(dict(config, widths=kept))
    _fill(backbone, layers, state, widths, ready, switchable)
    weights = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
    weights.update({f'head.fc.{key}': state[f'classifier.0.{key}'].clone() for key in AFFINE})
    return PublishedWeights(name, dict(config, widths=kept), weights, tuple(ready), left_out)


def _read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, without the prefix ``module.``, and without counters, which US-Nets never increment."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if not any(name.endswith('data.pkl') for name in names):
            raise ValueError(f'{path} is an archive of {names[:MAX_NAMED]}: unpack it, and pass the file inside')
    content = read_data(path)
    state = content.get('model', content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} has no weights: expected named tensors at the top level or under 'model'")
    bare = {key.removeprefix('module.'): value for key, value in state.items()}
    return {key: value for key, value in bare.items() if not key.endswith('num_batches_tracked')}


def _architecture(state: Mapping[str, Tensor], path: str | Path) -> tuple[str, dict]:
    """Name and config of the network, which the size of its classifier determines."""
    known = ', '.join(f'{name} ({size})' for size, (name, _) in ARCHITECTURES.items())
    if CLASSIFIER not in state or state[CLASSIFIER].dim() != 2:
        raise ValueError(
            f'{path} has no matrix {CLASSIFIER}, whose inputs identify the network: {known}. It is not a file of '
            f'MutualNet or slimmable_networks, or is incomplete; its first names are '
            f'{", ".join(list(state)[:MAX_NAMED])}'
        )
    features = state[CLASSIFIER].size(1)
    if features not in ARCHITECTURES:
        raise ValueError(
            f'{path} has a classifier of {features} inputs. The supported networks are {known}, each at full width 1.0'
        )
    return ARCHITECTURES[features]


def _classifier(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    shape = tuple(state[CLASSIFIER].shape)
    return {CLASSIFIER: shape, 'classifier.0.bias': shape[:1]}


def _listed_widths(
    state: Mapping[str, Tensor], layers: Sequence[Layer], channels: Mapping[float, Mapping[str, int]]
) -> list[float]:
    """The width of each entry of the norms' lists, found by the number of channels."""
    pattern = re.compile(re.escape(f'{layers[0].source_norm}.bn.') + r'\d+\.running_mean')
    widths = []
    for index in range(sum(pattern.fullmatch(key) is not None for key in state)):
        means = {layer.norm: state.get(f'{layer.source_norm}.bn.{index}.running_mean') for layer in layers}
        sizes = {norm: mean.numel() for norm, mean in means.items() if mean is not None}
        widths.append(max(GRID, key=lambda width: sum(channels[width][norm] == sizes[norm] for norm in sizes)))
    return widths


def _shapes(
    backbone: nn.Module, layers: Iterable[Layer], channels: Sequence[Mapping[str, int]], switchable: bool
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of the backbone in a file.

    Args:
        backbone: The backbone, with the sizes at full width.
        layers: Its layers.
        channels: Channels of each norm, for each entry of the lists.
        switchable: Whether affine parameters are in the lists.

    Returns:
        Shapes.
    """
    modules = dict(backbone.named_modules())
    shapes = {}
    for layer in layers:
        shapes[f'{layer.source_conv}.weight'] = tuple(modules[layer.conv].weight.shape)
        beside: tuple[str, ...] = () if switchable else AFFINE
        if not layer.lists:
            beside = (*AFFINE, *MOMENTS)
        shapes.update({f'{layer.source_norm}.{key}': (modules[layer.norm].num_features,) for key in beside})
        listed = (*AFFINE, *MOMENTS) if switchable else MOMENTS
        for index, sizes in enumerate(channels if layer.lists else ()):
            shapes.update({f'{layer.source_norm}.bn.{index}.{key}': (sizes[layer.norm],) for key in listed})
    return shapes


def _check(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], name: str, path: str | Path) -> None:
    """Raise ``ValueError`` unless a file has exactly the expected tensors."""
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    other = [
        f'{key} {tuple(state[key].shape)} instead of {shape}'
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    found = dict(missing=missing, unexpected=unexpected, **{'of another shape': other})
    wrong = [f'{len(keys)} {kind}, for example {", ".join(keys[:MAX_NAMED])}' for kind, keys in found.items() if keys]
    if wrong:
        raise ValueError(f'{path} is not a complete {name} of MutualNet or slimmable_networks: {"; ".join(wrong)}')


def _is_reset(state: Mapping[str, Tensor], layers: Iterable[Layer], index: int) -> bool:
    """Whether the statistics of an entry have their initial values."""
    entries = [f'{layer.source_norm}.bn.{index}' for layer in layers if layer.lists]
    return all((state[f'{e}.running_mean'] == 0).all() and (state[f'{e}.running_var'] == 1).all() for e in entries)


@torch.no_grad()
def _fill(
    backbone: nn.Module,
    layers: Iterable[Layer],
    state: Mapping[str, Tensor],
    widths: Sequence[float],
    ready: Sequence[float],
    switchable: bool,
) -> None:
    """Copy all weights, and the statistics of the widths that are ready, into a backbone."""
    modules = dict(backbone.named_modules())
    for layer in layers:
        modules[layer.conv].weight.copy_(state[f'{layer.source_conv}.weight'])
        norm = modules[layer.norm]
        for index, width in enumerate(widths):
            if width not in norm.widths:
                continue
            entry = f'{layer.source_norm}.bn.{index}' if layer.lists else layer.source_norm
            affine = entry if switchable else layer.source_norm
            for key, parameter in zip(AFFINE, norm.affine_parameters(width)):
                value = state[f'{affine}.{key}']
                parameter[: value.numel()].copy_(value)
            if width in ready:
                norm.set_statistics(width, *[state[f'{entry}.{key}'] for key in MOMENTS])
