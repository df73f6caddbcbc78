"""Training iterations: the hook's, and the same passes through other networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import nn

from mmmutual.engine.hooks import MutualLearningHook
from mmmutual.engine.rescale import rescale_batch
from mmmutual.engine.sampling import Subnet

SCALES = (1.0, 0.8, 0.6, 0.4)


class TimedIteration:
    """One training iteration with the hook, as MMEngine's loop runs it; each call does the same.

    Args:
        model: The slimmable detector.
        batch: A batch as a data loader yields it.
        widths: Widths of the sub-networks.
        optim_wrapper: The model's optimizer in its wrapper; by default weights do not change.
        **options: Further arguments of ``MutualLearningHook``.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: dict,
        widths: tuple[float, ...],
        optim_wrapper: OptimWrapper | None = None,
        **options,
    ) -> None:
        self.hook = MutualLearningHook(widths, SCALES, num_subnets=4, **options)
        self.batch = batch
        self.runner = SimpleNamespace(
            cfg=Config(),
            model=model,
            optim_wrapper=optim_wrapper or OptimWrapper(optimizer(model)),
            message_hub=MessageHub.get_instance('benchmark'),
            seed=0,
            iter=0,
            max_iters=10**6,
            hooks=[],
        )
        model.train()
        self.hook.before_train(self.runner)

    @property
    def subnets(self) -> list[Subnet]:
        """The passes, the widest first."""
        return self.hook.sampler.sample(self.runner.iter)

    def __call__(self) -> list[float]:
        """Four passes and one optimizer step; the loss of each pass."""
        torch.manual_seed(0)  # proposals are sampled
        self.hook.before_train_iter(self.runner, 0, self.batch)
        widest = self.runner.model.train_step(self.batch, self.runner.optim_wrapper)
        self.hook.after_train_iter(self.runner, 0, self.batch)
        scalars = self.runner.message_hub.log_scalars
        narrow = [scalars[f'train/w{subnet.width:g}/loss'].current() for subnet in self.subnets[1:]]
        return [widest['loss'].item(), *narrow]


def separate_passes(
    networks: Mapping[float, nn.Module],
    batch: dict,
    subnets: list[Subnet],
    set_width: Callable[[nn.Module, float], object] = lambda network, width: None,
) -> Callable[[], list[float]]:
    """The same passes, each through the network of its width, and one optimizer step of the widest.

    Args:
        networks: Networks by width, or one network that ``set_width`` switches.
        batch: A batch as a data loader yields it.
        subnets: The passes, the widest first.
        set_width: Called before each pass.

    Returns:
        A function that runs the passes and returns the losses.
    """
    for network in networks.values():
        network.train()
    optimizers = {id(network): optimizer(network) for network in networks.values()}
    step = optimizers[id(networks[subnets[0].width])].step

    def iterate() -> list[float]:
        torch.manual_seed(0)
        losses = []
        for subnet in subnets:
            network = networks[subnet.width]
            set_width(network, subnet.width)
            losses.append(one_pass(network, batch, subnet.scale))
        step()
        for each in optimizers.values():
            each.zero_grad()
        return losses

    return iterate


def one_pass(network: nn.Module, batch: dict, scale: float) -> float:
    """Forward and backward at an input scale; the loss."""
    data = network.data_preprocessor(batch, True)
    divisor = network.data_preprocessor.pad_size_divisor
    inputs, samples = rescale_batch(data['inputs'], data['data_samples'], scale, divisor)
    loss, _ = network.parse_losses(network(inputs, samples, mode='loss'))
    loss.backward()
    return loss.item()


def optimizer(network: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum that does not change the weights, so that all rounds do the same work."""
    return torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9)
