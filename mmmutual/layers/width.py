"""Width state: the active sub-network of a model, set by one function and one context manager.

The width is an attribute of each slimmable layer, so it belongs to one model: two models, or a model and its EMA copy,
never disturb each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.compiler import is_compiling

if TYPE_CHECKING:
    from torch.nn import Module
else:
    Module = object  # a mix-in of layers

_assign = object.__setattr__  # that of nn.Module first looks for a parameter, which is most of the time of a switch


class Slimmable(Module):
    """Mix-in of every layer that can run on the first of its channels only.

    Attributes:
        width: The active width multiplier in (0, 1]; change it through ``set_width``.
        declared_widths: The grid of widths that the layer was built for, largest first; None if it was built without.
    """

    width: float = 1.0
    declared_widths: tuple[float, ...] | None = None
    _kept: Any = None  # a ``Kept`` in a ``frozen`` block

    @classmethod
    def fits(cls, layer: nn.Module) -> bool:
        """Whether a stock layer can become one of this class with the options that it has."""
        return True

    def set_up(self) -> None:
        """Add the attributes of a slimmable layer to a stock layer, in place."""

    def check_width(self, width: float) -> None:
        """Raise ``ValueError`` if this layer cannot run at ``width``; any width is fine by default."""

    def active_operands(self, key: Any) -> Any:
        """The operands of ``forward`` at the active width, besides the input.

        Args:
            key: Channels of the input, unless the class says otherwise.

        Returns:
            Tensors and numbers: a tensor, a tuple, a dict by name or None.

        Raises:
            ValueError: If the layer does not accept these channels.
        """
        raise NotImplementedError

    def forget_kept(self) -> None:
        """Compute the operands again at the next call in a ``frozen`` block, since the layer has changed."""
        if not is_compiling() and self._kept is not None:
            self._kept.found.clear()

    # torch's hook for all moves and conversions of a module, which keep its parameters and their counts of writes
    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self.forget_kept()
        return super()._apply(*args, **kwargs)

    def operand_names(self, key: Any) -> Sequence[str] | None:
        """Tensors that change whenever the operands do, to notice it; None for all of the layer and its parts."""
        return None


def check_ratio(value: float, name: str = 'width') -> float:
    """Validate a width multiplier or an input scale.

    Args:
        value: The number given by the user.
        name: The argument's name, for the message.

    Returns:
        The value as a float, rounded to four decimals so that equal widths compare equal.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not above 0 and at most 1.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f'{name} must be a number above 0 and at most 1, for example 0.5, but got {value!r}')
    rounded = round(float(value), 4)
    if not 0 < rounded <= 1:
        raise ValueError(f'{name} must be above 0 and at most 1, for example 0.5, but got {value!r}')
    return rounded


def check_ratios(values: Sequence[float], name: str = 'widths') -> tuple[float, ...]:
    """Validate a list of width multipliers or of input scales.

    Args:
        values: One or more different numbers above 0 and at most 1, in any order.
        name: The argument's name, for the message.

    Returns:
        The values, largest first.

    Raises:
        TypeError: If it is not a sequence of numbers.
        ValueError: If it is empty, repeats a value, or holds one outside (0, 1].
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise TypeError(f'{name} must be a list of numbers such as (1.0, 0.5, 0.25), but got {values!r}')
    if len(values) == 0:
        raise ValueError(f'{name} is empty: give at least one number, for example (1.0, 0.5, 0.25)')
    ratios = [check_ratio(value, f'each of {name}') for value in values]
    repeated = sorted({ratio for ratio in ratios if ratios.count(ratio) > 1})
    if repeated:
        raise ValueError(f'{name} must not repeat a value, but {repeated} occur more than once in {list(values)}')
    return tuple(sorted(ratios, reverse=True))


def slimmable_layers(model: nn.Module) -> list[Slimmable]:
    """All slimmable layers of a model.

    Args:
        model: Any module.

    Returns:
        The layers, in the order of ``model.modules()``.

    Raises:
        ValueError: If there is none.
    """
    layers = [module for module in model.modules() if isinstance(module, Slimmable)]
    if not layers:
        raise ValueError(
            f'{type(model).__name__} has no slimmable layer, so its width cannot be changed. Swap its backbone for '
            "SlimmableResNet, or build its layers with conv_cfg=dict(type='SlimConv2d') and "
            "norm_cfg=dict(type='SlimBN', widths=...)"
        )
    return layers


def set_width(model: nn.Module, width: float) -> None:
    """Switch a model to one of its sub-networks, in place.

    Args:
        model: A model with slimmable layers.
        width: Width multiplier in (0, 1]. Batch norms support the widths that they were built or calibrated for.

    Raises:
        TypeError: If ``width`` is not a number.
        ValueError: If it is outside (0, 1], if a norm does not support it, or if the model has no slimmable layer.
            The model then keeps its width.

    Examples:
        >>> mmmutual.set_width(model, 0.5)
    """
    width = check_ratio(width)
    _switch(slimmable_layers(model), width)


def get_width(model: nn.Module) -> float:
    """The active width multiplier of a model.

    Args:
        model: A model with slimmable layers.

    Returns:
        The width in (0, 1].

    Raises:
        ValueError: If the model has no slimmable layer, or if its layers have different widths.
    """
    widths = {layer.width for layer in slimmable_layers(model)}
    if len(widths) > 1:
        raise ValueError(f'the layers of {type(model).__name__} have different widths: {sorted(widths)}')
    return widths.pop()


@contextmanager
def use_width(model: nn.Module, width: float) -> Iterator[None]:
    """Run a block at a width, and restore the former width afterwards, also after an error.

    Args:
        model: A model with slimmable layers.
        width: Width multiplier in (0, 1].

    Yields:
        Nothing.

    Raises:
        TypeError: As ``set_width``.
        ValueError: As ``set_width``.

    Examples:
        >>> with mmmutual.use_width(model, 0.25):
        ...     features = model.extract_feat(torch.rand(1, 3, 64, 96))
    """
    with use_layer_width(slimmable_layers(model), width):
        yield


@contextmanager
def use_layer_width(layers: Sequence[Slimmable], width: float) -> Iterator[None]:
    """Run a block at a width, as ``use_width``, with layers that were found before.

    Finding the layers of a model takes longer than switching them. Do not keep them for long: a module that is replaced
    later would not be switched.

    Args:
        layers: The slimmable layers of a model.
        width: Width multiplier in (0, 1].

    Yields:
        Nothing.

    Raises:
        TypeError: As ``set_width``.
        ValueError: As ``set_width``.
    """
    before = [(layer, layer.width) for layer in layers]
    _switch(layers, check_ratio(width))
    try:
        yield
    finally:
        for layer, former in before:
            _assign(layer, 'width', former)


def _switch(layers: Sequence[Slimmable], width: float) -> None:
    """Set the width of all layers, or of none if one does not support it."""
    for layer in layers:
        layer.check_width(width)
    for layer in layers:
        _assign(layer, 'width', width)
