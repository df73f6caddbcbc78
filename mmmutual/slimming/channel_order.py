"""Order the channels of a trained network by importance; its function at width 1.0 stays.

The narrow networks of a slimmable model consist of its first channels. The channels of a stock network have no order,
so its first channels are any channels. Once-for-All (arXiv 1908.09791) orders them before it trains narrow networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mmmutual.layers import SlimBatchNorm2d, Slimmable
from mmmutual.tensor_tree import tensors_in

from .channel_places import channel_places, memory_of, named_tensors
from .importance import Importance, importance_function
from .plan import SlimmingPlan
from .plan_model import plan_slimming


@dataclass(frozen=True)
class ChannelOrder:
    """A new order of the channels of a model, for each tensor that has them.

    Attributes:
        places: The former places of the channels, by the tensor's name in the model and by dimension.
        groups: The number of channel groups that have a new order.
    """

    places: Mapping[str, Mapping[int, Tensor]]
    groups: int

    def check_fits(self, model: nn.Module) -> None:
        """Check that a model has all tensors of the order.

        Args:
            model: The model that was planned, or a copy.

        Raises:
            ValueError: If it is another model.
        """
        tensors = dict(named_tensors(model))
        for name, dims in self.places.items():
            for dim, index in dims.items():
                if name not in tensors or tensors[name].dim() <= dim or tensors[name].size(dim) != len(index):
                    raise ValueError(
                        f'{type(model).__name__} is not a copy of the model that was planned: it has no {name} with '
                        f'{len(index)} channels in dimension {dim}. Pass the averaged model itself, as ema_model.module'
                    )

    @torch.no_grad()
    def permute_(self, model: nn.Module) -> None:
        """Order the parameters, their gradients and the buffers of the model or of a copy, such as an EMA, in place.

        Args:
            model: The model that was planned, or a copy, with the same names of parameters.

        Raises:
            ValueError: If it is another model. Nothing has changed then.
        """
        self.check_fits(model)
        tensors = dict(named_tensors(model))
        done: set[int] = set()
        for name, dims in self.places.items():
            tensor = tensors[name]
            for each in (tensor, tensor.grad):
                if each is not None and memory_of(each) not in done:
                    each.copy_(_permuted(each, dims))
                    done.add(memory_of(each))

    @torch.no_grad()
    def permute_optimizer_(self, optimizer: Optimizer, model: nn.Module) -> None:
        """Order the state of an optimizer, such as momenta, in place.

        Args:
            optimizer: An optimizer of the model's parameters.
            model: The model.

        Raises:
            ValueError: If the optimizer has none of the model's parameters, or if the state of a parameter is neither
                of its shape nor a scalar. Nothing has changed then.
        """
        changes, done = [], set()
        parameters = {id(parameter) for parameter in model.parameters()}
        if not any(id(parameter) in parameters for group in optimizer.param_groups for parameter in group['params']):
            raise ValueError(
                f'optimizer must be one of the parameters of the model, but the {type(optimizer).__name__} has none of '
                'them: pass the optimizer of this model'
            )
        for name, parameter in named_tensors(model):
            if name not in self.places or id(parameter) in done:
                continue
            done.add(id(parameter))
            for key, value in optimizer.state.get(parameter, {}).items():
                held = list(tensors_in(value))
                if all(each.numel() == 1 for each in held):
                    continue
                if not isinstance(value, Tensor) or value.shape != parameter.shape:
                    shapes = ', '.join(str(tuple(each.shape)) for each in held)
                    raise ValueError(
                        f'{type(optimizer).__name__} keeps {key} of {name} in the shape {shapes} and not '
                        f'{tuple(parameter.shape)}, so it cannot be ordered: order the channels before the training'
                    )
                changes.append((value, self.places[name]))
        for value, dims in changes:
            value.copy_(_permuted(value, dims))


def order_channels_(
    model: nn.Module,
    plan: SlimmingPlan | None = None,
    importance: str | Importance = 'norm_scale',
    optimizer: Optimizer | None = None,
    averages: Iterable[nn.Module] = (),
) -> ChannelOrder:
    """Order the channels of a trained model by importance, the most important first, in place.

    In each channel group of the plan, all layers that write, pass or read the channels get the same new order. So the
    outputs at width 1.0 stay the same to rounding, and the narrow networks get the most important channels. Channels
    that leave the model keep their order, and so do channels with full outputs. Group norms and grouped convolutions
    keep their groups together.

    Args:
        model: A trained detector or another model that ``plan_slimming`` plans, stock or slimmable.
        plan: Its plan. By default that of its scope: ``'detector'`` if the outputs of layers behind its backbone slim,
            else ``'backbone'``.
        importance: A name in ``IMPORTANCES``, or a function of a channel group and the layers by name, which returns a
            score for each channel.
        optimizer: An optimizer of the model, whose state is ordered as well.
        averages: Copies of the model, such as the ``ema_model.module`` of an EMA, which are ordered in the same way.

    Returns:
        The order, which can be applied to more copies.

    Raises:
        TypeError: If ``importance`` is neither a name nor a function.
        ValueError: If ``importance`` is unknown, or does not return a finite score for each channel; if the model was
            trained at several widths, so that its channels have an order; if a layer that runs in training only may
            read the channels; if ``optimizer`` or one of ``averages`` does not fit; or as ``plan_slimming``. Nothing
            has changed then.

    Examples:
        >>> order = mmmutual.order_channels_(detector)
        >>> mmmutual.make_slimmable_(detector, widths=(1.0, 0.5))
    """
    averages = tuple(averages)
    score = importance_function(importance)
    for each in (model, *averages):
        _check_untrained(each)
    if plan is None:
        plan = plan_slimming(model, _scope_of(model))
    elif plan.model is not model:
        raise ValueError('plan must be a plan of this model, but it is one of another: use plan_slimming(model)')
    order = ChannelOrder(channel_places(plan, score), sum(not group.leaves for group in plan.groups))
    for each in averages:
        order.check_fits(each)
    if optimizer is not None:
        order.permute_optimizer_(optimizer, model)
    for each in (model, *averages):
        order.permute_(each)
    return order


def check_order(plan: SlimmingPlan) -> None:
    """Check that the channels of a model can be ordered; the model does not change.

    Args:
        plan: The plan of the model.

    Raises:
        ValueError: If they cannot be ordered, as ``order_channels_``.
    """
    generator = torch.Generator().manual_seed(0)  # each channel group gets another order
    channel_places(plan, lambda group, layers: torch.rand(group.channels, generator=generator))


def is_ordered(model: nn.Module) -> bool:
    """Whether a model has statistics of narrow widths, so that its first channels were trained to work alone.

    Args:
        model: Any model.

    Returns:
        Whether it has them for any width below 1.0.
    """
    norms = [layer for layer in model.modules() if isinstance(layer, SlimBatchNorm2d) and layer.track_running_stats]
    return any(norm.is_ready(width) for norm in norms for width in norm.widths if width < 1.0)


def _check_untrained(model: nn.Module) -> None:
    if is_ordered(model):
        raise ValueError(
            f'{type(model).__name__} was trained or calibrated at several widths, so its channels have an order, and '
            'another one would break its narrow networks: order the channels of a stock checkpoint, before the training'
        )


def _scope_of(model: nn.Module) -> str:
    """The scope of a slimmable model, from the layers behind its backbone; that of the paper for a stock one."""
    behind = (
        layer
        for name, layer in model.named_modules()
        if name and isinstance(layer, Slimmable) and not name.startswith('backbone.')
    )
    has_backbone = isinstance(getattr(model, 'backbone', None), nn.Module)
    return 'detector' if has_backbone and any(getattr(layer, 'slim_out', False) for layer in behind) else 'backbone'


def _permuted(tensor: Tensor, dims: Mapping[int, Tensor]) -> Tensor:
    for dim, index in dims.items():
        tensor = tensor.index_select(dim, index.to(tensor.device))
    return tensor
