"""A training iteration: the passes of several sub-networks over one batch (arXiv 1909.12978, algorithm 1)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmmutual.layers import slimmable_layers
from mmmutual.layers.width import use_layer_width
from mmmutual.upstream import counted_once

from .distillation import Distillation
from .loss_guard import LossGuard
from .pass_errors import describe_pass, named_errors
from .pass_losses import NonfiniteLossError, PassLosses
from .rescale import rescale_as
from .sampling import Subnet
from .shared_masks import share_masks_
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
            The losses to log, by name, for each sub-network: tensors () on the CPU.
        """
        network, teacher = unwrapped(model), None
        passes: list[PassLosses] = []
        layers = slimmable_layers(network)
        factor = len(subnets) if self.loss_reduction == 'sum' else 1  # the accumulation averages over the passes
        with counted_once(optim_wrapper, len(subnets)):
            with optim_wrapper.optim_context(model):
                prepared = network.data_preprocessor(batch, True)  # on the device, normalised, augmented: once
            truth = share_masks_(_ground_truth(prepared))
            with self._cleared_after_errors(optim_wrapper, passes, truth):
                for subnet in subnets:
                    data = dict(prepared) if isinstance(prepared, Mapping) else copy.deepcopy(prepared)
                    with use_layer_width(layers, subnet.width), named_errors(name, subnet, data):
                        self._separate_(data, subnet.scale, network.data_preprocessor)
                        with optim_wrapper.optim_context(model):  # mixed precision; the last pass reduces the gradients
                            self.guard.before_forward(network)
                            losses, output = self._forward(model, network, data)
                            if self.distillation is not None and teacher is not None:
                                ratio = subnet.scale / subnets[0].scale
                                losses = self.distillation.losses(losses, output, teacher, ratio)
                            elif self.distillation is not None:
                                teacher = self.distillation.as_teacher(output)
                        loss, log = network.parse_losses(losses)
                        passes.append(PassLosses.of(f'{name}, {describe_pass(subnet)}:', losses, log))
                        loss = self.guard.after_forward(network, loss, passes[-1], truth)
                        if len(passes) == len(subnets):
                            self.guard.before_step(passes, truth)
                        optim_wrapper.update_params(loss * factor)  # backward; the last pass also takes the step
                    del data, losses, output, loss, log  # memory for the next pass
        return [each.log for each in passes]

    def _forward(self, model: nn.Module, network: nn.Module, data: Mapping | Sequence) -> tuple[dict, object]:
        """The losses of the active sub-network, and the output that is distilled."""
        if self.distillation is None:
            return _losses(model, data), None
        with self.distillation.watched(network) as outputs:
            losses = _losses(model, data)
        return losses, outputs[-1]

    def _separate_(self, data: Any, scale: float, preprocessor: nn.Module) -> None:
        """Replace the content of a batch by a copy at an input scale; some losses change boxes in place."""
        if not isinstance(data, dict):
            if scale != 1.0:
                rescale_as(preprocessor, data, (), scale)  # names the batch that it needs
            return
        kept = {}
        if scale != 1.0:
            rescaled = rescale_as(preprocessor, data['inputs'], data['data_samples'], scale, self.norm_stride)
            data['inputs'], data['data_samples'] = rescaled
            kept = {id(rescaled[0]): rescaled[0]}  # new images
        data.update(copy.deepcopy(data, kept))

    @contextmanager
    def _cleared_after_errors(
        self, optim_wrapper: OptimWrapper, passes: list[PassLosses], truth: Sequence
    ) -> Iterator[None]:
        """Drop the gradients of the passes before an error; name an earlier loss that may be its cause."""
        try:
            yield
        except Exception as error:
            optim_wrapper.zero_grad()
            if not isinstance(error, NonfiniteLossError):
                self.guard.before_step(passes, truth)
            raise


def _losses(model: nn.Module, data: Mapping | Sequence) -> dict:
    return model(**data, mode='loss') if isinstance(data, Mapping) else model(*data, mode='loss')


def _ground_truth(data: Mapping | Sequence) -> Sequence:
    """The data samples of a batch; empty if it has none."""
    samples = data.get('data_samples') if isinstance(data, Mapping) else None
    return samples if isinstance(samples, Sequence) else ()
