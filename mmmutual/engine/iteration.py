"""A training iteration: the passes of several sub-networks over one batch (arXiv 1909.12978, algorithm 1)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmmutual.layers import use_width
from mmmutual.upstream import counted_once

from .distillation import Distillation
from .loss_guard import LossGuard
from .pass_errors import describe_pass, named_errors
from .rescale import rescale_as
from .sampling import Subnet
from .unwrapped import unwrapped

REDUCTIONS = ('sum', 'mean')


@dataclass(frozen=True)
class MutualIteration:
    """Train several sub-networks on one batch, with one step of the optimizer.

    Args:
        guard: Checks the losses of each pass.
        distillation: Lets the other sub-networks learn from the first; with None they learn from the ground truth only.
        loss_reduction: ``'sum'`` adds the losses of the passes, ``'mean'`` averages them.
        norm_stride: As in ``rescale_batch``.
    """

    guard: LossGuard
    distillation: Distillation | None = None
    loss_reduction: str = 'sum'
    norm_stride: int = 1

    def run(
        self, model: nn.Module, batch: dict, optim_wrapper: OptimWrapper, subnets: Sequence[Subnet], name: str
    ) -> list[dict[str, Tensor]]:
        """Run one pass for each sub-network, as ``train_step`` of MMEngine runs the only one.

        Args:
            model: The model in its wrapper, if it has one.
            batch: A batch of the data loader.
            optim_wrapper: Accumulates the gradients of the passes and takes the step.
            subnets: The first is the teacher of the others.
            name: The iteration, for messages.

        Returns:
            The losses to log, by name, for each sub-network.
        """
        network, teacher, logs = unwrapped(model), None, []
        factor = len(subnets) if self.loss_reduction == 'sum' else 1  # the accumulation averages over the passes
        with counted_once(optim_wrapper, len(subnets)):
            with optim_wrapper.optim_context(model):
                prepared = network.data_preprocessor(batch, True)  # on the device, normalised, augmented: once
            for subnet in subnets:
                data = copy.deepcopy(prepared)  # some losses change boxes in place
                with use_width(network, subnet.width), named_errors(name, subnet, data):
                    self._rescale_(data, subnet.scale, network.data_preprocessor)
                    with optim_wrapper.optim_context(model):  # mixed precision; no synchronisation before the last pass
                        self.guard.before_forward(network)
                        losses, output = self._forward(model, data)
                        if self.distillation is not None and teacher is not None:
                            losses = self.distillation.losses(losses, output, teacher, subnet.scale / subnets[0].scale)
                        elif self.distillation is not None:
                            teacher = self.distillation.as_teacher(output)
                        where, truth = f'{name}, {describe_pass(subnet)}:', _ground_truth(data)
                        losses = self.guard.after_forward(network, losses, where, truth)
                    loss, log = network.parse_losses(losses)
                    optim_wrapper.update_params(loss * factor)  # backward; the last pass completes the count: the step
                logs.append({term: value.detach() for term, value in log.items()})
                del data, losses, output, loss, log  # memory for the next pass
        return logs

    def _forward(self, model: nn.Module, data: Mapping | Sequence) -> tuple[dict, object]:
        """The losses of the active sub-network, and the output that is distilled."""
        if self.distillation is None:
            return _losses(model, data), None
        with self.distillation.watched(unwrapped(model)) as outputs:
            losses = _losses(model, data)
        return losses, outputs[-1]

    def _rescale_(self, data: Any, scale: float, preprocessor: nn.Module) -> None:
        """Bring a preprocessed batch to an input scale, in place."""
        if scale != 1.0:
            rescaled = rescale_as(preprocessor, data['inputs'], data['data_samples'], scale, self.norm_stride)
            data['inputs'], data['data_samples'] = rescaled


def _losses(model: nn.Module, data: Mapping | Sequence) -> dict:
    return model(**data, mode='loss') if isinstance(data, Mapping) else model(*data, mode='loss')


def _ground_truth(data: Mapping | Sequence) -> Sequence | None:
    return data.get('data_samples') if isinstance(data, Mapping) else None
