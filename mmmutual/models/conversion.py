"""From the layer configs users have to their slimmable counterparts."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule

from mmmutual.layers import Slimmable

CONVS = (None, 'Conv', 'Conv2d', 'SlimConv2d')
NORMS = {
    'BN': 'SlimBN',
    'BN2d': 'SlimBN',
    'SyncBN': 'SlimSyncBN',
    'GN': 'SlimGN',
    'SlimBN': 'SlimBN',
    'SlimSyncBN': 'SlimSyncBN',
    'SlimGN': 'SlimGN',
    'SwitchableBN': 'SwitchableBN',
}


def slim_conv_cfg(conv_cfg: dict | None, owner: str, **kwargs) -> dict:
    """Config of the slimmable convolution that replaces the configured one.

    Args:
        conv_cfg: What the user configured; None is a plain convolution.
        owner: Name of the module that is built, for the message.
        **kwargs: Further arguments of :class:`~mmmutual.layers.SlimConv2d`.

    Returns:
        A config for mmcv's ``build_conv_layer``.

    Raises:
        ValueError: If that convolution has no slimmable counterpart.
    """
    conv_cfg = {'type': None, **(conv_cfg or {})}
    if conv_cfg['type'] not in CONVS:
        raise ValueError(
            f'{owner} cannot slim conv_cfg type {conv_cfg["type"]!r}: only a plain convolution can. Leave conv_cfg out'
        )
    return {**conv_cfg, 'type': 'SlimConv2d', **kwargs}


def slim_norm_cfg(norm_cfg: dict, widths: Sequence[float] | None, owner: str) -> dict:
    """Config of the slimmable norm that replaces the configured one.

    Args:
        norm_cfg: What the user configured: BN, SyncBN, GN, their slimmable counterparts, or SwitchableBN.
        widths: The grid of widths that batch norms keep statistics for.
        owner: Name of the module that is built, for the messages.

    Returns:
        A config for mmcv's ``build_norm_layer``.

    Raises:
        ValueError: If that norm has no slimmable counterpart, or if a batch norm lacks the grid.
    """
    kind = norm_cfg.get('type')
    if kind not in NORMS:
        raise ValueError(f'{owner} cannot slim norm_cfg type {kind!r}: choose BN, SyncBN or GN')
    slim = {**norm_cfg, 'type': NORMS[kind]}
    if NORMS[kind] == 'SlimGN':
        return slim
    if widths is None:
        raise ValueError(
            f'{owner} has norm_cfg type {kind!r}, which keeps statistics for each width: pass widths, for example '
            'widths=(1.0, 0.75, 0.5, 0.25)'
        )
    return {**slim, 'widths': tuple(widths)}


def check_all_slim(module: BaseModule) -> None:
    """Raise if a layer with parameters or running statistics cannot slim.

    Args:
        module: A backbone or neck that is built.

    Raises:
        ValueError: With the first such layer's name and type.
    """
    for name, layer in module.named_modules():
        own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
        if own and not isinstance(layer, Slimmable):
            raise ValueError(
                f'{type(module).__name__} cannot slim its layer {name} ({type(layer).__name__}): only convolutions, '
                'linear layers, batch norms and group norms slim'
            )
