"""Inference at each width over the stock detector of that width: frozen, and slicing its weights at each call.

For comparison, the module also measures the authors' kind of layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from mmmutual.deploy import largest_difference
from mmmutual.deploy.outputs import tensor_difference
from mmmutual.layers import frozen, set_width

from .networks import per_layer, slimmable, static
from .options import Options
from .per_layer import set_per_layer_width
from .table import Row
from .timing import quartiles, ratios, take_turns

TARGET = 1.02
TOLERANCE = 1e-3  # relative to the largest value: a GPU may choose other algorithms
NETWORKS = {'frozen': ', frozen', 'ours': '', 'authors': ", authors' layers"}  # the names in the rows


@torch.no_grad()
def measure(options: Options) -> list[Row]:
    """Backbone with FPN, then the detector, at every width; other layouts and types at one width."""
    config = options.config()
    model = slimmable(config, options.device)
    authors = per_layer(model, model.backbone.widths, options.device)
    image = torch.randn(1, 3, *options.size, device=options.device)
    networks = dict(ours=model, authors=authors, frozen=copy.deepcopy(model))
    rows = []
    with frozen(networks['frozen']):
        for width in options.widths:
            networks['static'] = static(model, width, options.device)
            set_per_layer_width(authors, width)
            for name in ('ours', 'frozen'):
                set_width(networks[name], width)
            check_same(networks, image)
            rows += _rows(networks, image, options, width)
            if width == 0.5:
                rows += _other_formats(networks, image, options, width)
    return rows


def check_same(networks: dict[str, nn.Module], image: Tensor) -> None:
    """Raise ``RuntimeError`` unless all networks compute the same."""
    features = {name: _named(network.extract_feat(image)) for name, network in networks.items()}
    for name, found in features.items():
        _check(tensor_difference(features['ours'], found), name)
    if image.device.type == 'cpu':
        _check(largest_difference(networks['ours'], networks['static']), 'the detections of static')


def _check(difference: float, name: str) -> None:
    if difference > TOLERANCE:
        raise RuntimeError(
            f'the slimmable network differs from {name} by {difference:.1e}, so their times cannot be compared'
        )


def _rows(networks: dict[str, nn.Module], image: Tensor, options: Options, width: float) -> list[Row]:
    rows = []
    for part, maker in (('backbone and FPN', _features), ('detector', detection)):
        calls = {name: maker(network, image) for name, network in networks.items()}
        rows += _over_static(f'{part}, width {width:g}', calls, options, TARGET)
    return rows


def _over_static(
    what: str, calls: dict[str, Callable[[], object]], options: Options, target: float | None = None
) -> list[Row]:
    times = take_turns(calls, options.rounds)
    reference = f'static: {quartiles(times["static"])[1]:.1f} ms'
    return [
        Row(what + label, tuple(ratios(times, name, 'static')), reference, target if name == 'frozen' else None)
        for name, label in NETWORKS.items()
        if name in calls
    ]


def _other_formats(networks: dict[str, nn.Module], image: Tensor, options: Options, width: float) -> list[Row]:
    """Backbone and FPN with channels last, and in bfloat16.

    Each call has its autocast block, as each image has in use: a longer block would keep the cast weights of the static
    network from call to call.
    """
    some = {name: networks[name] for name in ('ours', 'frozen', 'static')}
    autocast = torch.autocast(torch.device(options.device).type, torch.bfloat16)
    calls = {name: autocast(_features(network, image)) for name, network in some.items()}
    what = f'backbone and FPN, width {width:g}'
    rows = _over_static(f'{what}, bfloat16', calls, options)
    for network in some.values():
        network.to(memory_format=torch.channels_last)
    image = image.to(memory_format=torch.channels_last)
    calls = {name: _features(network, image) for name, network in some.items()}
    rows += _over_static(f'{what}, channels last', calls, options)
    for network in some.values():
        network.to(memory_format=torch.contiguous_format)
    return rows


def _named(features: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return {str(index): level.float() for index, level in enumerate(features)}


def _features(network: nn.Module, image: Tensor) -> Callable[[], object]:
    return lambda: network.extract_feat(image)


def detection(network: nn.Module, image: Tensor) -> Callable[[], object]:
    """A call that detects objects in a preprocessed image (1, 3, H, W)."""
    size = tuple(image.shape[2:])
    sample = DetDataSample(metainfo=dict(img_id=0, img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    return lambda: network.predict(image, [sample.clone()])
