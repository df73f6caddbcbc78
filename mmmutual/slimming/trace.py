"""Follow channels through one run of a model: the inputs and outputs of each layer, by the ids of the channels.

Hooks record the layers, a ``TorchFunctionMode`` the operations between them. The model computes as usual, except that
large outputs of layers are scaled down, and outputs that are all zero become noise.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmmutual.tensor_tree import tensors_in

from .channel_ids import ChannelIds, compact, ids_of, rows, set_ids, spread, values_of
from .dry_run import bounded
from .operations import follow
from .roles import Role, channel_dim, channels_out, features, is_attention


class Trace(TorchFunctionMode):
    """One run of a model at full width.

    Args:
        ids: The ids of the channels; the run adds those that layers write, and joins and keeps them.
        layers: The layers of the model with their roles.
        writers: The layers whose outputs may slim.
        sources: The parameters between layers whose channels may slim.
        pieces: Layers whose outputs are equal pieces that slim alike, with their number; their groups slim alike too.

    Attributes:
        inputs: The input of each layer, as the ids (C,) of its channels.
        outputs: The output of each layer, as the ids (C,) of its channels.
        read: The ids that layers read, except for layers that follow their input.
        ends: The ids in the outputs of the model, tensor by tensor.
        ran: The layers that ran, in their order.
        parameters: The parameters that operations between layers used.
        values: The input tensors of each layer, call by call.
        results: The output tensors of the model.
    """

    def __init__(
        self,
        ids: ChannelIds,
        layers: Mapping[nn.Module, Role],
        writers: Iterable[nn.Module],
        sources: Iterable[nn.Parameter] = (),
        pieces: Mapping[nn.Module, int] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.ids, self.layers, self.writers, self.sources = ids, layers, set(writers), set(sources)
        self.pieces = pieces
        self.inputs: dict[nn.Module, np.ndarray] = {}
        self.outputs: dict[object, np.ndarray] = {}
        self.read: list[np.ndarray] = []
        self.ends: list[np.ndarray] = []
        self.ran: dict[nn.Module, None] = {}
        self.parameters: set[nn.Parameter] = set()
        self.values: defaultdict[nn.Module, list[list[Tensor]]] = defaultdict(list)
        self.results: list[Tensor] = []
        self._devices = {weight.device for layer in layers for weight in layer.parameters() if weight.is_cuda}
        self._open: list[nn.Module] = []
        self._recent: list[Tensor] = []

    def run(self, function: Callable[[], object]) -> object:
        """Run a model.

        Args:
            function: Runs it.

        Returns:
            The result of the function.
        """
        random.seed(0)
        np.random.seed(0)
        torch.default_generator.manual_seed(0)  # not torch.manual_seed, which is for all devices
        for device in self._devices:
            torch.cuda.default_generators[device.index].manual_seed(0)
        with ExitStack() as stack:
            for layer in self.layers:
                enter = layer.register_forward_pre_hook(self._enter, with_kwargs=True)
                options = dict(with_kwargs=True, always_call=True, prepend=True)  # others' hooks see active channels
                leave = layer.register_forward_hook(self._leave, **options)
                stack.callback(enter.remove)
                stack.callback(leave.remove)
            for parameter in self.sources:
                stack.callback(set_ids, parameter, None)
            stack.enter_context(torch.no_grad())
            with self:
                result = function()
        self.results = [*tensors_in(result)]
        for value in self.results:
            self._end(value)
        return result

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """Call an operation, and follow the channels through it unless it is inside a layer."""
        kwargs = kwargs or {}
        if self._open:
            return func(*args, **kwargs)
        parameters = {value for value in tensors_in((args, kwargs)) if isinstance(value, nn.Parameter)}
        self.parameters |= parameters
        if not parameters.isdisjoint(self.sources):
            args, kwargs = self.use(parameters & self.sources, args, kwargs)
        operands = list(tensors_in((args, kwargs)))
        recent = [own for own in map(ids_of, operands) if own is not None]
        self._recent = recent or self._recent
        result = func(*args, **kwargs)
        if recent:
            follow(self.ids, func, args, kwargs, result)
        return result

    @property
    def recent(self) -> list[np.ndarray]:
        """The ids of the channels that the last operation took."""
        return [values_of(own) for own in self._recent]

    def _enter(self, layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        self._open.append(layer)
        if len(self._open) > 1:
            return None
        self.ran[layer] = None
        self._recent = [own for own in map(ids_of, tensors_in((args, kwargs))) if own is not None] or self._recent
        return self.take(layer, args, kwargs)

    def _leave(self, layer: nn.Module, args: tuple, kwargs: dict, output: object) -> object:
        self._open.pop()
        if self._open:
            return None
        output = bounded(output)
        given = self.give(layer, output, channel_dim(layer, kwargs))
        return output if given is None else given

    def take(self, layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Record the input of a layer.

        Args:
            layer: The layer.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            Other arguments to call it with, or None.
        """
        self.values[layer].append([value.clone() for value in tensors_in((args, kwargs))])
        if self.layers[layer] is Role.STOCK:
            for value in tensors_in((args, kwargs)):
                if ids_of(value) is not None:
                    self.ids.keep(values_of(ids_of(value)), f'{type(layer).__name__} needs all of its channels')
            return None
        for value in features(layer, args, kwargs):
            for row in rows(value, channel_dim(layer, kwargs)):
                known = self.inputs.setdefault(layer, row)
                if len(known) == len(row):
                    self.ids.join(known, row)
                else:
                    self.ids.keep(np.append(known, row), f'{type(layer).__name__} gets different numbers of them')
        if layer in self.pieces:
            first, *others = self.inputs[layer].reshape(getattr(layer, 'groups', 1), -1)
            for other in others:
                self.ids.join(first, other)
        if self.layers[layer] in (Role.WRITER, Role.RESIDUAL):
            self.read.append(self.inputs[layer])
        return None

    def give(self, layer: nn.Module, output: object, dim: int) -> object:
        """Record the output of a layer.

        Args:
            layer: The layer.
            output: Its output.
            dim: The dimension of the channels.

        Returns:
            Another output to give instead, or None.
        """
        vector = self.written(layer)
        for place, value in enumerate(tensors_in(output)):
            if vector is None or (place and is_attention(layer)):  # the second are weights
                set_ids(value, None)
            else:
                spread(vector, value, dim)
        return None

    def use(self, parameters: Iterable[nn.Parameter], args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Name the channels of parameters that an operation uses: new ones, along their last dimension.

        Args:
            parameters: The parameters, among ``sources``.
            args: The operation's arguments.
            kwargs: Its keyword arguments.

        Returns:
            The arguments to call it with.
        """
        for parameter in parameters:
            if parameter not in self.outputs:
                self.outputs[parameter] = self.ids.new(parameter.size(-1))
            spread(self.outputs[parameter], parameter, -1)
        return args, kwargs

    def written(self, layer: nn.Module) -> np.ndarray | None:
        """The ids (C,) of the output of a layer, or None for full outputs."""
        role = self.layers[layer]
        if layer in self.outputs:
            return self.outputs[layer]
        if role in (Role.WRITER, Role.SOURCE) and layer in self.writers:
            pieces = self.pieces.get(layer, 1)
            self.outputs[layer] = np.tile(self.ids.new(channels_out(layer) // pieces), pieces)
        elif role in (Role.NORM, Role.EXTRACTOR, Role.RESIDUAL):
            return self.inputs[layer]
        elif role is Role.GROUPED:
            self.outputs[layer] = self._grouped(layer)
        return self.outputs.get(layer)

    def channels_behind(self, layer: nn.Module | nn.Parameter | None) -> np.ndarray | None:
        """The ids (C,) of the output of a layer or of a parameter, or None if it did not run or has full outputs."""
        follows = self.layers.get(layer) in (Role.NORM, Role.EXTRACTOR, Role.RESIDUAL)
        return (self.inputs if follows else self.outputs).get(layer)

    def _grouped(self, layer: nn.Module) -> np.ndarray:
        """The output of a grouped convolution: the channels of each group are active or not like those of its input."""
        groups = self.inputs[layer].reshape(layer.groups, -1)
        for other in range(1, groups.shape[1]):
            self.ids.join(groups[:, 0], groups[:, other])
        return np.repeat(groups[:, 0], layer.out_channels // layer.groups)

    def feed(self, key: object, value: Tensor) -> Tensor:
        """Make the channels of an input level (N, C, H, W) slim.

        Args:
            key: Names the level.
            value: The level.

        Returns:
            The level for the model.
        """
        spread(self.outputs.setdefault(key, self.ids.new(value.size(1))), value, 1)
        return value

    def _end(self, value: Tensor) -> None:
        """Record an output of the model."""
        if ids_of(value) is None:
            return
        ids = compact(ids_of(value))
        if ids.numel() == max(ids.shape):
            self.ends.append(values_of(ids))
        else:
            self.ids.keep(values_of(ids), 'they do not lie in one dimension of the outputs')
