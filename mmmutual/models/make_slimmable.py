"""A built detector becomes slimmable in place, with its own parameters, and stock again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mmdet.models.backbones.res2net import Bottle2neck
from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmmutual.layers import Slimmable, can_slim, check_ratios, slim_layer_, unslim_layer_

from .backbones import SlimBottle2neck
from .hidden import check_parts, slim_hidden
from .layout import lay_out, of_mmpretrain
from .roi_extractors import SlimmableGenericRoIExtractor, SlimmableSingleRoIExtractor
from .rules import COMPLETE, STOCK, all_outputs, divide_inputs, outputs_of

FilterFn = Callable[[nn.Module, str], bool]
PARTS = ('backbone', 'detector')
BLOCKS = {Bottle2neck: SlimBottle2neck}  # blocks that count channels themselves
EXTRACTORS = {SingleRoIExtractor: SlimmableSingleRoIExtractor, GenericRoIExtractor: SlimmableGenericRoIExtractor}


def make_slimmable_(
    model: nn.Module, widths: Sequence[float], filter_fn: FilterFn | None = None, slim: str = 'backbone'
) -> None:
    """Make a built model slimmable, in place.

    With ``slim='backbone'``, as in the paper, the layers of the backbone slim. Those of the neck take the channels that
    arrive and give all of theirs, so the heads stay as they are; without a neck the heads' layers do that.

    With ``slim='detector'`` neck and heads slim too: a layer whose output feeds others slims on both sides, a layer
    whose output is a prediction on its input only. What feeds what is seen in a run on a small image
    (:class:`~mmmutual.models.dataflow.Dataflow`). Layers that run in training only take what arrives and give all. So
    do layers whose channels are not treated one by one before the next layer, as by a cut or a mean over channels: a
    narrow network is compared with the full one to find them (:mod:`~mmmutual.models.self_check`).

    Batch norms keep statistics for each width, those of neck and heads too. Each layer remains the same object:
    parameters, names in the checkpoint, training flags, hooks and sharing stay. Layers that are slimmable already stay
    as they are.

    Args:
        model: An mmdet detector or another model with a ``backbone``, or a backbone alone.
        widths: Width multipliers above 0 and at most 1 that batch norms keep statistics for, in any order.
        filter_fn: Called with each layer that could be converted and its name in the model; False leaves it stock. By
            default all of the parts above are converted.
        slim: ``'backbone'`` or ``'detector'``.

    Raises:
        TypeError: If ``widths`` is no list of numbers.
        ValueError: If ``widths`` or ``slim`` is out of range, if the model consists of several models, if a layer that
            does not slim would get fewer channels than it takes, with its name, or if the whole detector does not run.
            The model is as before then.

    Example:
        >>> mmmutual.make_slimmable_(model, widths=(1.0, 0.5))
        >>> mmmutual.set_width(model, 0.5)
    """
    widths = check_ratios(widths)
    whole = check_part(slim) == 'detector'
    backbone = _backbone_of(model)
    inside = set(backbone.modules())
    how = outputs_of(model)
    follows = _every_head(model) if whole else _follows(model)
    converted: list[nn.Module] = []
    swapped: list[nn.Module] = []
    stock_necks = [neck for neck in _necks(model) if not any(isinstance(layer, Slimmable) for layer in neck.modules())]
    try:
        for name, layer in model.named_modules():
            if isinstance(layer, Slimmable) or not can_slim(layer):
                continue
            norm = isinstance(layer, _BatchNorm)
            if not norm and how.get(layer) == STOCK:
                continue
            if layer not in inside and not follows(name, norm):
                continue
            if filter_fn is not None and not filter_fn(layer, name):
                continue
            slim_out = (layer in inside and how.get(layer) != COMPLETE) or getattr(layer, 'groups', 1) > 1
            slim_layer_(layer, widths, outputs=None if slim_out else all_outputs(layer))
            converted.append(layer)
        _check_slims(backbone)
        swapped += _swap_blocks(backbone, {**BLOCKS, **of_mmpretrain('BLOCKS')})
        lay_out(model if whole else backbone)
        for neck in stock_necks:
            divide_inputs(neck, complete=not whole)
        if whole:
            swapped += _swap_blocks(model, EXTRACTORS)
            candidates = {layer for layer in converted if layer not in inside and how.get(layer) != COMPLETE}
            slim_hidden(model, candidates, widths)
        else:
            check_parts(model, widths, heads=not stock_necks and bool(_heads(model)))
    except Exception:
        for layer in converted:
            unslim_layer_(layer)
        _unswap_blocks(swapped)
        raise


def check_part(slim: str) -> str:
    """Validate what slims.

    Args:
        slim: ``'backbone'`` or ``'detector'``.

    Returns:
        The same.

    Raises:
        ValueError: If it is neither.
    """
    if slim not in PARTS:
        raise ValueError(
            f"slim must be 'backbone', as in the paper, or 'detector', neck and heads too, but got {slim!r}"
        )
    return slim


def undo_slimmable_(model: nn.Module) -> None:
    """Make the layers that :func:`make_slimmable_` converted stock again, in place: the network of width 1.0.

    The statistics of the other widths are dropped. Layers that were built slimmable stay so.

    Args:
        model: A model after :func:`make_slimmable_`; any other stays as it is.
    """
    for layer in model.modules():
        unslim_layer_(layer)
    _unswap_blocks(model.modules())


def _check_slims(backbone: nn.Module) -> None:
    """Raise if every layer of the backbone gives all of its outputs."""
    if any(getattr(layer, 'slim_out', False) for layer in backbone.modules()):
        return
    stock = [(name, layer) for name, layer in backbone.named_modules() if layer._parameters and not can_slim(layer)]
    found = f', its layer {stock[0][0]} ({type(stock[0][1]).__name__}) among them' if stock else ''
    raise ValueError(f'{type(backbone).__name__} cannot slim: no convolution of it slims{found}')


def _swap_blocks(model: nn.Module, classes: dict[type[nn.Module], type[nn.Module]]) -> list[nn.Module]:
    """Give the blocks of these classes their counterpart's; each keeps in mind what it was."""
    blocks = [block for block in model.modules() if type(block) in classes]
    for block in blocks:
        block._stock_class = type(block)
        block.__class__ = classes[type(block)]
    return blocks


def _unswap_blocks(blocks: Iterable[nn.Module]) -> None:
    """Make blocks stock again that were; those that were built slimmable stay so."""
    for block in blocks:
        if '_stock_class' in vars(block):
            block.__class__ = vars(block).pop('_stock_class')


def _backbone_of(model: nn.Module) -> nn.Module:
    """The backbone, or the model itself if it is none that has one."""
    backbone = getattr(model, 'backbone', None)
    if isinstance(backbone, nn.Module):
        return backbone
    nested = [name for name, _ in model.named_modules() if name.endswith('.backbone')]
    if nested:
        raise ValueError(
            f'{type(model).__name__} consists of several models: its backbones are {", ".join(nested)}. Make the one '
            'that is trained slimmable by itself'
        )
    return model


def _necks(model: nn.Module) -> list[nn.Module]:
    """The neck, or each of several in a row."""
    neck = getattr(model, 'neck', None)
    if isinstance(neck, (nn.Sequential, nn.ModuleList)):
        return list(neck)
    return [neck] if isinstance(neck, nn.Module) else []


def _heads(model: nn.Module) -> list[str]:
    """The names of a detector's heads, but for teachers'."""
    return [name for name, _ in model.named_children() if name.endswith('head') and not name.startswith('teacher')]


def _every_head(model: nn.Module) -> Callable[[str, bool], bool]:
    """All that is behind the backbone, but for teachers."""
    return lambda name, norm: not name.startswith('teacher')


def _follows(model: nn.Module) -> Callable[[str, bool], bool]:
    """Which layers behind the backbone are converted, by their name and whether they are a batch norm."""
    first = _necks(model)[:1]
    takes_levels = bool(first) and any(can_slim(layer) for layer in first[0].modules())
    parts = _heads(model)

    def follows(name: str, norm: bool) -> bool:
        part = name.split('.')[0]
        return part == 'neck' or (part in parts and (norm or not takes_levels))

    return follows
