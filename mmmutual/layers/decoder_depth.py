"""Leave out the last layers of a decoder at test time.

DETR-like detectors train a prediction after each layer of their decoder. So the first n layers, with the prediction of
layer n, are a detector as well: its predictions are those that the full detector has at layer n.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import mmengine.model
from mmdet.models import DDQDETRHead, DETRHead, Mask2FormerHead, MaskFormerHead
from mmdet.models.detectors.base_detr import DetectionTransformer
from mmdet.models.layers import DABDetrTransformerDecoder, DetrTransformerDecoder
from torch import nn

from mmmutual.number_checks import is_whole

if TYPE_CHECKING:
    from torch.nn import ModuleList
else:
    ModuleList = object  # a mix-in of lists of layers


def layer_count(layers: nn.Module) -> int:
    """The number of layers in a list, whatever runs."""
    return sum(1 for _ in layers.children())


class FirstLayers(ModuleList):
    """First base of a list of layers that runs the first of them in evaluation mode, and all of them in training.

    Attributes:
        active_layers: Number of layers to run.
    """

    active_layers: int

    def __len__(self) -> int:
        """Number of layers that run."""
        return layer_count(self) if self.training else self.active_layers

    def __iter__(self) -> Iterator[nn.Module]:
        """The layers that run."""
        return islice(self.children(), len(self))


class FirstOfModuleList(FirstLayers, nn.ModuleList):
    """Torch's list."""


class FirstOfBaseModuleList(FirstLayers, mmengine.model.ModuleList):
    """MMEngine's list, which initializes its layers."""


class CountingDabDecoder(DABDetrTransformerDecoder):
    """DAB-DETR's decoder, which leaves out the reference points behind the last layer: the last one that runs."""

    @property
    def num_layers(self) -> int:
        """Number of layers that run."""
        return len(self.layers)


class CountingMask2FormerHead(Mask2FormerHead):
    """Mask2Former's head, which counts the layers of its decoder that run."""

    @property
    def num_transformer_decoder_layers(self) -> int:
        """Number of layers that run."""
        return len(self.transformer_decoder.layers)


COUNTERPARTS: dict[type[nn.Module], type[nn.Module]] = {
    nn.ModuleList: FirstOfModuleList,
    mmengine.model.ModuleList: FirstOfBaseModuleList,
    DABDetrTransformerDecoder: CountingDabDecoder,
    Mask2FormerHead: CountingMask2FormerHead,
}
STOCK = {counterpart: stock for stock, counterpart in COUNTERPARTS.items()}
COUNTED_BY_NAME = (DABDetrTransformerDecoder, Mask2FormerHead)  # they have the number of layers as an attribute


def decoder_layers(model: nn.Module) -> int | None:
    """The number of decoder layers that a detector has.

    Args:
        model: Any model.

    Returns:
        The number; None for a model without a decoder whose layers can be left out.

    Examples:
        >>> mmmutual.decoder_layers(detr)
        4
        >>> mmmutual.decoder_layers(model) is None  # a RetinaNet
        True
    """
    found = _decoders(model)
    if not found or any(_obstacle(*pair) for pair in found):
        return None
    return min(layer_count(decoder.layers) for _, decoder in found)


def get_decoder_layers(model: nn.Module) -> int | None:
    """The number of decoder layers that a detector runs in evaluation mode.

    Args:
        model: Any model.

    Returns:
        The number; None for a model without a decoder whose layers can be left out.
    """
    number = decoder_layers(model)
    if number is None:
        return None
    return min(getattr(decoder.layers, 'active_layers', number) for _, decoder in _decoders(model))


def set_decoder_layers(model: nn.Module, number: int | None) -> None:
    """Let a DETR-like detector run the first layers of its decoder only, in place.

    It holds in evaluation mode. In training mode all layers run, since each of them has its loss. Parameters and
    checkpoints do not change.

    Args:
        model: A detector of mmdet that predicts after each layer of a decoder, slimmable or not: DETR, Conditional
            DETR, DAB-DETR, Deformable DETR, DINO, DDQ, Grounding DINO, MaskFormer or Mask2Former.
        number: Number of layers, at least 1 (2 for DDQ); None for all.

    Raises:
        TypeError: If ``number`` is not a whole number.
        ValueError: If the model has no such decoder, or not as many layers. The model then does not change.

    Examples:
        >>> mmmutual.set_decoder_layers(detr, 3)
        >>> mmmutual.get_decoder_layers(detr), mmmutual.decoder_layers(detr)
        (3, 4)
    """
    found = _decoders(model)
    if not found:
        raise ValueError(
            f'{type(model).__name__} has no decoder whose layers can be left out: decoder_layers is for detectors such '
            'as DETR, DINO and Mask2Former, and must be None for others'
        )
    for pair in found:
        obstacle = _obstacle(*pair)
        if obstacle:
            raise ValueError(f'the decoder layers of {type(model).__name__} cannot be left out: {obstacle}')
        if number is not None:
            _check_number(number, *pair)
    for owner, decoder in found:
        stock = number is None or number == layer_count(decoder.layers)
        for part in (decoder.layers, *(part for part in (owner, decoder) if isinstance(part, COUNTED_BY_NAME))):
            kind = STOCK.get(type(part), type(part))
            part.__class__ = kind if stock else COUNTERPARTS[kind]
        vars(decoder.layers).pop('active_layers', None)
        if number is not None and not stock:
            decoder.layers.active_layers = int(number)


@contextmanager
def use_decoder_layers(model: nn.Module, number: int | None) -> Iterator[None]:
    """Run a block with the first layers of a decoder, and restore the former number afterwards, also after an error.

    Args:
        model: As ``set_decoder_layers``; any model if ``number`` is None.
        number: Number of layers; None does not change the model.

    Yields:
        Nothing.

    Raises:
        TypeError: As ``set_decoder_layers``.
        ValueError: As ``set_decoder_layers``.

    Examples:
        >>> with mmmutual.use_decoder_layers(detr, 3):
        ...     mmmutual.get_decoder_layers(detr)
        3
    """
    if number is None:
        yield
        return
    former = get_decoder_layers(model)
    set_decoder_layers(model, number)
    try:
        yield
    finally:
        set_decoder_layers(model, former)


def check_decoder_layers(model: nn.Module, numbers: Sequence[int] | None) -> tuple[int | None, ...]:
    """Validate the numbers of decoder layers to evaluate a model with.

    Args:
        model: Any model.
        numbers: One or more different numbers of layers in any order; None for all layers.

    Returns:
        The numbers, largest first: that of all layers for None; ``(None,)`` for a model without such a decoder.

    Raises:
        TypeError: If it is not a list of whole numbers.
        ValueError: If it is empty or repeats a number, or as ``set_decoder_layers``.
    """
    if numbers is None:
        return (decoder_layers(model),)
    if isinstance(numbers, (str, bytes)) or not isinstance(numbers, Sequence):
        raise TypeError(f'decoder_layers must be a list of whole numbers such as (6, 4, 2), but got {numbers!r}')
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(
            f'decoder_layers must have at least one number, and each only once, such as (6, 4, 2), but got {numbers!r}'
        )
    for number in numbers:
        with use_decoder_layers(model, number):
            pass  # an error shows before anything runs
    return tuple(sorted(map(int, numbers), reverse=True))


def _decoders(model: nn.Module) -> list[tuple[nn.Module, DetrTransformerDecoder]]:
    """The decoders of a model, each with the module that owns it."""
    return [
        (owner, child)
        for owner in model.modules()
        for child in owner.children()
        if isinstance(child, DetrTransformerDecoder)
    ]


def _obstacle(owner: nn.Module, decoder: DetrTransformerDecoder) -> str:
    """The reason for which layers of a decoder cannot be left out; empty if they can."""
    parts = [(decoder, 'forward')]
    if isinstance(owner, DetectionTransformer) and isinstance(owner.bbox_head, DETRHead):
        parts += [(owner, 'forward_decoder'), (owner.bbox_head, 'forward')]
    elif isinstance(owner, MaskFormerHead):
        parts += [(owner, 'forward')]
    else:
        return f'{type(owner).__name__}, which has the decoder, is not a detector of queries of mmdet'
    for part, method in parts:
        author = next(kind for kind in type(part).__mro__ if method in vars(kind))
        if author.__module__.split('.')[0] not in ('mmdet', 'mmmutual'):
            return f'{author.__name__} has its own {method}, so the layers that it runs are unknown'
    for part in (owner, decoder):
        kind = STOCK.get(type(part), type(part))
        if isinstance(part, COUNTED_BY_NAME) and kind not in COUNTERPARTS:
            return f'{kind.__name__} is not a class of mmdet'
    if type(decoder.layers) not in (*COUNTERPARTS, *STOCK):
        return f'its layers are a {type(decoder.layers).__name__}, not a ModuleList'
    if not decoder.return_intermediate:
        return 'return_intermediate=False, so only the last layer has learnt to predict'
    return ''


def _check_number(number: int, owner: nn.Module, decoder: DetrTransformerDecoder) -> None:
    if not is_whole(number):
        raise TypeError(f'decoder_layers must be a whole number, but got {number!r}')
    least = 2 if isinstance(getattr(owner, 'bbox_head', None), DDQDETRHead) else 1  # it selects queries behind layer 1
    most = layer_count(decoder.layers)
    if not least <= number <= most:
        raise ValueError(
            f'decoder_layers must be from {least} to {most} for this {type(owner).__name__}, but got {number}'
        )
