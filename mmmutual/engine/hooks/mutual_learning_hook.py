"""The mutual-learning training of MutualNet as an MMEngine hook (arXiv 1909.12978, section 3 and algorithm 1)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from torch import Tensor, nn

from mmmutual.layers import Slimmable, set_width, slimmable_layers, use_width
from mmmutual.upstream import multiply_counts, restore_counts

from ..averaging import averaged_models, start_averages
from ..distillation import build_distillation, detached
from ..image_sides import fit_padding
from ..loss_guard import LossGuard
from ..narrow_start import warn_of_plain_weights
from ..norm_check import check_frozen_norms, warn_of_mixed_statistics
from ..pass_errors import describe_pass, note_pass
from ..prepared_batch import PreparedBatch
from ..rescale import rescale_as
from ..sampling import SandwichSampler, Subnet

REDUCTIONS = ('sum', 'mean')


@HOOKS.register_module()
class MutualLearningHook(Hook):
    """Trains several sub-networks per iteration on one batch, with one optimizer step.

    Each iteration runs the sandwich: the widest network on the full scale, then the narrowest and some random widths,
    each on an input scale drawn at random. All passes see the batch that the data preprocessor made for the first,
    batch augmentations included. The widest pass is the training loop's own. The others follow it with MMEngine's
    gradient accumulation between them, so mixed precision, gradient clipping, distributed training and the user's own
    accumulation work as usual. The logged losses are the widest network's; those of each other width are
    logged as ``w0.25/loss`` and so on.

    Args:
        widths: Width multipliers above 0 and at most 1, in any order; the norms must know them.
        scales: Input scales relative to the training pipeline's size, above 0 and at most 1, in any order.
        num_subnets: Passes per iteration, the widest and the narrowest among them.
        loss_reduction: How the passes' losses combine: ``'sum'`` as in the paper, or ``'mean'``, which is MMEngine's
            accumulation as it is.
        nonfinite: What a pass does whose loss is infinite or NaN: ``'raise'`` ends the run with the sub-network, the
            iteration and the loss term; ``'skip'`` logs them and leaves the pass out.
        distill: Config of a ``Distillation``, what the narrower passes learn from the widest; by default all passes
            learn from the ground truth alone, as the paper's detectors do.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range; before training, if the model has nothing to slim, a norm does not
            know a width, a frozen norm lacks statistics for one, or the model cannot be distilled as asked.
        FloatingPointError: During training, if a loss is not finite and ``nonfinite`` is ``'raise'``.
    """

    priority = 'HIGH'  # the iteration's passes are whole before other hooks look at the weights or set the next rate

    def __init__(
        self,
        widths: Sequence[float],
        scales: Sequence[float] = (1.0,),
        num_subnets: int = 4,
        loss_reduction: str = 'sum',
        nonfinite: str = 'raise',
        distill: dict | None = None,
    ) -> None:
        if loss_reduction not in REDUCTIONS:
            raise ValueError(f'loss_reduction must be one of {REDUCTIONS}, but got {loss_reduction!r}')
        self.sampler = SandwichSampler(widths, scales, num_subnets)
        self.loss_reduction = loss_reduction
        self.distillation = None if distill is None else build_distillation(distill)
        self._guard = LossGuard(nonfinite)
        self._subnet = self._widest = Subnet(self.sampler.widths[0], self.sampler.scales[0])
        self._iteration = 0
        self._output: object = None  # of the module that is distilled, in the pass under way
        self._teacher: object = None
        self._handles: list = []
        self._batch: PreparedBatch | None = None
        self._norm_stride = 1
        self._where = ''

    def before_run(self, runner) -> None:
        """Check what can be checked before data and weights are loaded."""
        self.check(_unwrapped(runner.model), runner.cfg)

    def check(self, model: nn.Module, config: Mapping) -> None:
        """Check that a model can be trained as this hook is configured.

        Args:
            model: A model, without a wrapper; its weights do not matter.
            config: The config of the run.

        Raises:
            ValueError: If the model has nothing to slim, does not know a width, cannot be distilled as configured, or
                if ``sync_bn`` is set in the config.
        """
        if config.get('sync_bn'):
            raise ValueError(
                f'sync_bn={config["sync_bn"]!r} would replace the slimmable batch norms by plain ones: remove it and '
                "use norm_cfg=dict(type='SlimSyncBN')"
            )
        slimmable_layers(model)
        self._check_fused(model, config.get('efficient_conv_bn_eval') or [])
        for width in self.sampler.widths:
            with use_width(model, width):
                pass
        if self.distillation is not None:
            self._distilled_module(model)

    def before_train(self, runner) -> None:
        """Turn each iteration into ``num_subnets`` accumulated passes."""
        model = _unwrapped(runner.model)
        check_frozen_norms(model, self.sampler.widths)
        warn_of_mixed_statistics(model)
        warn_of_plain_weights(runner, model, self.sampler.widths)
        optim_wrapper = runner.optim_wrapper
        if not isinstance(optim_wrapper, OptimWrapper) or isinstance(optim_wrapper, OptimWrapperDict):
            raise ValueError(
                f'MutualLearningHook needs one OptimWrapper, but the runner has a {type(optim_wrapper).__name__}: '
                'train all parameters with one optimizer, and set their learning rates with paramwise_cfg'
            )
        self.sampler.seed = runner.seed
        passes = self.sampler.num_subnets
        own = multiply_counts(optim_wrapper, passes)
        # A resume in the middle of an epoch repeats iterations, so that more than max_iters run. MMEngine needs the
        # number for an accumulation over iterations only, whose last step may have fewer of them.
        last = -1 if own == 1 else runner.max_iters * passes
        optim_wrapper.initialize_count_status(runner.model, runner.iter * passes, last)
        optim_wrapper.zero_grad()  # a training that was interrupted may have left the gradients of some passes
        set_width(model, self.sampler.widths[0])
        self._remove_handles()
        self._norm_stride = fit_padding(model)
        self._batch = PreparedBatch(model.data_preprocessor)
        self._handles = [
            model.register_forward_pre_hook(self._prepare_pass, with_kwargs=True),
            model.register_forward_hook(self._finish_pass, with_kwargs=True),
            model.register_forward_hook(self._note_failure, always_call=True),
        ]
        self._output = self._teacher = None
        if self.distillation is not None:
            module = self._distilled_module(model)
            self._handles.append(module.register_forward_hook(self._keep_output))

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Note the iteration; the loop's own pass is the widest network's."""
        self._iteration = runner.iter
        self._batch.expect()

    def after_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs=None) -> None:
        """Run the other passes; the last one ends in the optimizer's step."""
        model = _unwrapped(runner.model)
        subnets = self.sampler.sample(runner.iter)
        for subnet in subnets[1:]:
            self._run_pass(runner, model, subnet, data_batch)
        self._teacher = None
        self._batch.forget()
        for average in averaged_models(runner.hooks):
            start_averages(model, average, {subnet.width for subnet in subnets})

    def after_train(self, runner) -> None:
        """Leave the model without hooks and at its widest, and the optimizer wrapper as it was built."""
        self._remove_handles()
        restore_counts(runner.optim_wrapper)

    def _run_pass(self, runner, model: nn.Module, subnet: Subnet, data_batch: dict) -> None:
        self._subnet = subnet
        try:
            with use_width(model, subnet.width), self._batch.repeated():
                losses = runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper)
        except Exception as error:  # whatever it is: the loop knows neither width nor scale
            note_pass(error, self._where)
            raise
        finally:
            self._subnet = self._widest
        for name, value in losses.items():
            runner.message_hub.update_scalar(f'train/w{subnet.width:g}/{name}', value)

    def _prepare_pass(self, model: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Forward pre-hook: the pass's input scale, for training losses only."""
        if kwargs.get('mode') != 'loss':
            return None
        self._guard.before_forward(model)
        self._note(kwargs.get('inputs'))
        if self._subnet.scale == 1.0:
            return None
        inputs, data_samples = rescale_as(
            model.data_preprocessor, kwargs['inputs'], kwargs['data_samples'], self._subnet.scale, self._norm_stride
        )
        self._note(inputs)
        return args, {**kwargs, 'inputs': inputs, 'data_samples': data_samples}

    def _note(self, inputs: object) -> None:
        """Keep in words what the pass under way runs on."""
        self._where = f'iteration {self._iteration + 1}, {describe_pass(self._subnet, inputs)}'

    def _note_failure(self, model: nn.Module, args: tuple, output: object) -> None:
        """Forward hook that is called after an error too: the widest pass is the loop's own."""
        error = sys.exc_info()[1]
        if output is None and isinstance(error, Exception):
            note_pass(error, self._where)

    def _finish_pass(self, model: nn.Module, args: tuple, kwargs: dict, losses: dict) -> dict | None:
        """Forward hook: check the losses; undo MMEngine's averaging over the passes, in the gradients alone."""
        if kwargs.get('mode') != 'loss':
            return None
        if self.distillation is not None:
            losses = self._distill(losses)
        where = f'iteration {self._iteration + 1}, width {self._subnet.width:g} at scale {self._subnet.scale:g}:'
        losses = self._guard.after_forward(model, losses, where, kwargs.get('data_samples'))
        if self.loss_reduction == 'mean':
            return losses
        factor = self.sampler.num_subnets
        return {name: _map_tensors(value, factor) for name, value in losses.items()}

    def _distilled_module(self, model: nn.Module) -> nn.Module:
        """The module whose output is distilled, if the model has it."""
        try:
            return model.get_submodule(self.distillation.module)
        except AttributeError:
            raise ValueError(
                f'distill watches the module {self.distillation.module!r}, but {type(model).__name__} has none of that '
                f'name; it has {[name for name, _ in model.named_children()]}: name one with distill.module'
            ) from None

    def _keep_output(self, module: nn.Module, args: tuple, output: object) -> None:
        self._output = output

    def _distill(self, losses: dict) -> dict:
        if self._output is None:
            raise ValueError(
                f'distill watches the module {self.distillation.module!r}, which the training pass did not call: name '
                'another one with distill.module'
            )
        output, self._output = self._output, None
        if self._teacher is None:  # the widest pass comes first
            self._teacher = detached(output)
            return losses
        return self.distillation.losses(losses, output, self._teacher, self._subnet.scale / self._widest.scale)

    def _check_fused(self, model: nn.Module, parts: str | Sequence[str]) -> None:
        """Refuse what fuses layers at full width."""
        for name in [parts] if isinstance(parts, str) else parts:
            if any(isinstance(layer, Slimmable) for layer in getattr(model, name, nn.Identity()).modules()):
                raise ValueError(
                    f'efficient_conv_bn_eval={parts!r} fuses slimmable layers of {name} at full width, so it works at '
                    f'width 1.0 only, but the widths are {self.sampler.widths}: remove it'
                )

    def _remove_handles(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._batch is not None:
            self._batch.close()


class _ScaleGradient(torch.autograd.Function):
    """Identity whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def _map_tensors(value: Tensor | list, factor: float) -> Tensor | list:
    if isinstance(value, (list, tuple)):
        return [_map_tensors(item, factor) for item in value]
    return _ScaleGradient.apply(value, factor) if isinstance(value, Tensor) and value.requires_grad else value


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
