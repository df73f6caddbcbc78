"""Parameters that modules use outside layers, such as position embeddings and layer scales: their active channels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from .frozen import operands_of
from .segments import Segment, take
from .width import Slimmable

STATE = ('parameter_segments', 'times_slimmed')  # attributes that slim_parameters_ sets


class SlimParameters(Slimmable):
    """First base of the class of a module some of whose parameters slim along their last dimension.

    Reading such a parameter, as in ``module.pos_embed``, gives its active channels; checkpoints and optimizers have the
    parameter itself, with all of them.

    Attributes:
        parameter_segments: The segments of each of these parameters.
        times_slimmed: How often they were made slimmable, and not undone.
    """

    parameter_segments: dict[str, tuple[Segment, ...]]
    times_slimmed: int

    def active_operands(self, key: str) -> Tensor:
        """The active channels of the parameter of a name, along its last dimension."""
        parameter = dict(self.named_parameters(recurse=False, remove_duplicate=False))[key]
        if self.width == 1.0:  # without an operation, which a trace of the model would follow
            return parameter
        return take(parameter, self.parameter_segments[key], self.width, -1)

    def operand_names(self, key: str) -> tuple[str, ...]:
        """The parameter."""
        return (key,)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle it, although its class has no importable name."""
        return _restored, (type(self).__bases__[1], self.parameter_segments), vars(self)


def slim_parameters_(module: nn.Module, segments: Mapping[str, tuple[Segment, ...]]) -> None:
    """Let parameters of a module slim, in place. The module remains the same object; its class changes.

    A module whose parameters slim already does not change, but it is undone as often as it was slimmed.

    Args:
        module: A module that is not a slimmable layer.
        segments: The segments of each parameter's last dimension, by the parameter's name.
    """
    if isinstance(module, SlimParameters):
        module.times_slimmed += 1
        return
    vars(module).update(parameter_segments=dict(segments), times_slimmed=1)
    module.__class__ = _with_active(type(module), segments)


def unslim_parameters_(module: nn.Module) -> None:
    """Undo the last ``slim_parameters_`` of a module, in place; any other module does not change."""
    if not isinstance(module, SlimParameters):
        return
    module.times_slimmed -= 1
    if module.times_slimmed == 0:
        module.__class__ = type(module).__bases__[1]
        for name in {*STATE, 'width', 'declared_widths', '_kept'} & vars(module).keys():
            delattr(module, name)


def active_parameter(module: SlimParameters, name: str) -> Tensor:
    """The active channels of a parameter, along its last dimension."""
    return operands_of(module, name)


def _with_active(kind: type[nn.Module], names: Mapping[str, Any]) -> type[nn.Module]:
    """A subclass whose parameters of these names are read with their active channels."""
    members = {name: property(partial(active_parameter, name=name)) for name in names}
    return type(kind.__name__, (SlimParameters, kind), {**members, '__module__': kind.__module__})


def _restored(kind: type[nn.Module], names: Mapping[str, Any]) -> nn.Module:
    return object.__new__(_with_active(kind, names))
