"""Parameters that modules use outside layers, such as position embeddings and layer scales: their active channels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from .segments import Segment, take
from .width import Slimmable


class SlimParameters(Slimmable):
    """First base of the class of a module some of whose parameters slim along their last dimension.

    Reading such a parameter, as in ``module.pos_embed``, gives its active channels; checkpoints and optimizers have the
    parameter itself, with all of them.

    Attributes:
        parameter_segments: The segments of each of these parameters.
    """

    parameter_segments: dict[str, tuple[Segment, ...]]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle it, although its class has no importable name."""
        return _restored, (type(self).__bases__[1], self.parameter_segments), vars(self)


def slim_parameters_(module: nn.Module, segments: Mapping[str, tuple[Segment, ...]]) -> None:
    """Let parameters of a module slim, in place. The module remains the same object; its class changes.

    Args:
        module: A module that is not a slimmable layer.
        segments: The segments of each parameter's last dimension, by the parameter's name.
    """
    vars(module)['parameter_segments'] = dict(segments)
    module.__class__ = _with_active(type(module), segments)


def unslim_parameters_(module: nn.Module) -> None:
    """Undo ``slim_parameters_``, in place; any other module does not change."""
    if isinstance(module, SlimParameters):
        module.__class__ = type(module).__bases__[1]
        for name in {'parameter_segments', 'width', 'declared_widths'} & vars(module).keys():
            delattr(module, name)


def active_parameter(module: SlimParameters, name: str) -> Tensor:
    """The active channels of a parameter, along its last dimension."""
    parameter = module._parameters[name]
    if module.width == 1.0:  # without an operation, which a trace of the model would follow
        return parameter
    return take(parameter, module.parameter_segments[name], module.width, -1)


def _with_active(kind: type[nn.Module], names: Mapping[str, Any]) -> type[nn.Module]:
    """A subclass whose parameters of these names are read with their active channels."""
    members = {name: property(partial(active_parameter, name=name)) for name in names}
    return type(kind.__name__, (SlimParameters, kind), {**members, '__module__': kind.__module__})


def _restored(kind: type[nn.Module], names: Mapping[str, Any]) -> nn.Module:
    return object.__new__(_with_active(kind, names))
