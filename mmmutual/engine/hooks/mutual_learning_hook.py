"""The mutual-learning training of MutualNet as an MMEngine hook (arXiv 1909.12978, section 3 and algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from mmmutual.layers import Slimmable, set_width, slimmable_layers, use_width, width_grid

from ..averaging import averaged_models, start_averages
from ..distillation import build_distillation
from ..image_sides import fit_padding
from ..iteration import REDUCTIONS, MutualIteration
from ..loss_guard import LossGuard
from ..narrow_start import warn_of_stock_weights
from ..norm_check import check_frozen_norms, warn_of_mixed_statistics
from ..sampling import SandwichSampler, Subnet
from ..train_step_check import check_train_step, warn_of_replaced_train_step
from ..unwrapped import unwrapped
from .channel_order_hook import ChannelOrderHook


@HOOKS.register_module()
class MutualLearningHook(Hook):
    """Train several sub-networks per iteration on one batch, with one optimizer step.

    Each iteration follows the sandwich rule: the widest network runs at the full scale, then the narrowest and some
    random widths run, each at an input scale drawn at random. The data preprocessor runs once, so all passes use the
    same images, including batch augmentations. The training loop calls ``train_step`` as usual; during an iteration
    this is ``MutualIteration.run``, whose passes are added up by MMEngine's gradient accumulation. Mixed precision,
    gradient clipping, distributed training and the user's accumulation therefore work as usual. The losses of the
    widest network are logged under their usual names, those of each other width as ``w0.25/loss`` and so on.

    Args:
        widths: Width multipliers above 0 and at most 1, in any order; the norms must support them. Defaults to the grid
            that the model was built for.
        scales: Input scales relative to the training pipeline's size, above 0 and at most 1, in any order.
        num_subnets: Passes per iteration, including the widest and the narrowest.
        loss_reduction: ``'sum'`` adds the losses of the passes, as in the paper; ``'mean'`` averages them, as
            MMEngine's accumulation does.
        nonfinite: Action for a pass whose loss is infinite or NaN. ``'raise'`` ends the run with a message that names
            the sub-network, the iteration and the loss term; ``'skip'`` logs the message and leaves the pass out. The
            CPU waits for a GPU once an iteration with ``'raise'``, and in each pass with ``'skip'``.
        distill: Config of a ``Distillation``, by which the narrower passes learn from the widest. By default all passes
            learn from the ground truth only, as the paper's detectors do.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range. Before training, if the model is not slimmable or declares no grid
            of widths, if a norm does not support a width, if a frozen norm lacks statistics for a width, or if the
            model does not have the module to distill.
        FloatingPointError: During training, if a loss is not finite and ``nonfinite`` is ``'raise'``.
    """

    priority = 'HIGH'  # the averaged models receive the widths of the iteration before EMAHook updates them

    def __init__(
        self,
        widths: Sequence[float] | None = None,
        scales: Sequence[float] = (1.0,),
        num_subnets: int = 4,
        loss_reduction: str = 'sum',
        nonfinite: str = 'raise',
        distill: dict | None = None,
    ) -> None:
        if loss_reduction not in REDUCTIONS:
            raise ValueError(f'loss_reduction must be one of {REDUCTIONS}, but got {loss_reduction!r}')
        self._widths = widths
        self.sampler = SandwichSampler((1.0,) if widths is None else widths, scales, num_subnets)  # see check()
        self.loss_reduction = loss_reduction
        self.distillation = None if distill is None else build_distillation(distill)
        self.iteration = MutualIteration(LossGuard(nonfinite), self.distillation, loss_reduction)
        self._passes: list[tuple[Subnet, dict[str, Tensor]]] = []  # those of the last iteration, with their losses

    def before_run(self, runner: Runner) -> None:
        """Check model and config before data and weights are loaded."""
        check_train_step(runner.model)
        self.check(unwrapped(runner.model), runner.cfg)

    def check(self, model: nn.Module, config: Mapping) -> None:
        """Check that a model can be trained as this hook is configured, and adopt its grid of widths by default.

        Args:
            model: A model, without a wrapper; its weights do not matter.
            config: The config of the run.

        Raises:
            ValueError: If the model is not slimmable, declares no grid of widths (without ``widths``), does not support
                a width, does not have the module to distill, or overrides ``train_step``; or if ``sync_bn`` is set in
                the config.
        """
        if config.get('sync_bn'):
            raise ValueError(
                f'sync_bn={config["sync_bn"]!r} would replace the slimmable batch norms by stock ones: remove it and '
                "use norm_cfg=dict(type='SlimSyncBN')"
            )
        check_train_step(model)
        slimmable_layers(model)
        if self._widths is None:
            self.sampler = SandwichSampler(width_grid(model), self.sampler.scales, self.sampler.num_subnets)
        self._check_fused(model, config.get('efficient_conv_bn_eval') or [])
        for width in self.sampler.widths:
            with use_width(model, width):
                pass
        if self.distillation is not None:
            self.distillation.find_module(model)

    def before_train(self, runner: Runner) -> None:
        """Check the weights and the optimizer wrapper; set the model to its largest width."""
        model = unwrapped(runner.model)
        check_frozen_norms(model, self.sampler.widths)
        warn_of_mixed_statistics(model)
        if not any(isinstance(hook, ChannelOrderHook) for hook in runner.hooks):
            warn_of_stock_weights(runner, model, self.sampler.widths)
        warn_of_replaced_train_step(runner)
        optim_wrapper = runner.optim_wrapper
        if not isinstance(optim_wrapper, OptimWrapper) or isinstance(optim_wrapper, OptimWrapperDict):
            raise ValueError(
                f'MutualLearningHook needs one OptimWrapper, but the runner has a {type(optim_wrapper).__name__}: '
                'train all parameters with one optimizer, and set their learning rates with paramwise_cfg'
            )
        self.sampler.seed = runner.seed
        optim_wrapper.zero_grad()  # an interrupted training may have left gradients of some passes
        set_width(model, self.sampler.widths[0])
        self.iteration = replace(self.iteration, norm_stride=fit_padding(model))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Let the loop's next ``train_step`` run the passes of this iteration."""
        runner.model.train_step = partial(self._train_step, runner)

    def _train_step(self, runner: Runner, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Run the passes instead of the model's ``train_step``; the loop logs the losses of the widest network."""
        del runner.model.train_step  # restore that of the class now, since the passes may raise an error
        subnets = self.sampler.sample(runner.iter)
        logs = self.iteration.run(runner.model, data, optim_wrapper, subnets, f'iteration {runner.iter + 1}')
        self._passes = list(zip(subnets, logs))
        return logs[0]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Log the losses of the narrower networks; add the trained widths to averaged models."""
        for subnet, losses in self._passes[1:]:
            for name, value in losses.items():
                runner.message_hub.update_scalar(f'train/w{subnet.width:g}/{name}', value)
        for average in averaged_models(runner.hooks):
            start_averages(unwrapped(runner.model), average, {subnet.width for subnet, _ in self._passes})

    def _check_fused(self, model: nn.Module, parts: str | Sequence[str]) -> None:
        """Reject an option that fuses layers at full width."""
        for name in [parts] if isinstance(parts, str) else parts:
            if any(isinstance(layer, Slimmable) for layer in getattr(model, name, nn.Identity()).modules()):
                raise ValueError(
                    f'efficient_conv_bn_eval={parts!r} fuses slimmable layers of {name} at full width, so it works at '
                    f'width 1.0 only, but the widths are {self.sampler.widths}: remove it'
                )
