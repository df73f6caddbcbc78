"""Order the channels of the weights that a training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from pathlib import Path

import torch
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from mmmutual.checkpoint import is_mutual, read_checkpoint
from mmmutual.slimming import ChannelGroup, Importance, importance_function, is_ordered, order_channels_

from ..averaging import averaged_models
from ..narrow_start import start_weights
from ..unwrapped import unwrapped


@HOOKS.register_module()
class ChannelOrderHook(Hook):
    """Order the channels by importance once, before the first iteration of a training from stock weights.

    The narrow networks consist of the first channels, and the channels of a stock network have no order. After
    ``order_channels_`` the first channels are the most important ones, and the function at width 1.0 is unchanged.

    The hook orders the model that ``load_from`` or ``init_cfg=dict(type='Pretrained')`` has loaded, and the averaged
    models (EMA). It leaves the model unchanged, with a line in the log, if the weights are random, or if they were
    trained at several widths. A resumed training continues with the order of its checkpoint.

    A network without batch norms has no statistics of narrow widths. The hook recognises its weights by the config that
    MMEngine writes into a checkpoint (``meta``). It cannot recognise them in a file without it, or at an address in
    ``init_cfg``.

    Args:
        importance: As ``order_channels_``: a name in ``IMPORTANCES``, or a function.

    Raises:
        TypeError: If ``importance`` is neither a name nor a function.
        ValueError: If ``importance`` is unknown. Before training, as ``order_channels_``.
    """

    priority = 'VERY_HIGH'  # MutualLearningHook then checks the weights that are trained

    def __init__(self, importance: str | Importance = 'norm_scale') -> None:
        importance_function(importance)
        self.importance = importance
        self._mutual = False  # whether the loaded checkpoint was trained by MutualLearningHook

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note whether a mutual training wrote the checkpoint: group norms have no statistics that tell."""
        self._mutual = is_mutual({'state_dict': {}, **checkpoint})

    def before_train(self, runner: Runner) -> None:
        """Order the model and its averages, after the weights are loaded."""
        if runner.iter > 0:
            return
        model = unwrapped(runner.model)
        source = start_weights(runner, model)
        if source is None:
            runner.logger.info('ChannelOrderHook leaves the channels as they are, since the weights are random')
        elif self._mutual or is_ordered(model) or (not runner.cfg.get('load_from') and _is_mutual_file(source)):
            runner.logger.info(
                f'ChannelOrderHook leaves the channels as they are: {source} was trained at several widths, and the '
                'training continues from it'
            )
        else:
            self._order(runner, model, source)

    def _order(self, runner: Runner, model: nn.Module, source: str) -> None:
        averages = [average.module for average in averaged_models(runner.hooks)]
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        score = _of_first_process(importance_function(self.importance))
        try:
            order = order_channels_(model, importance=score, optimizer=optimizer, averages=averages)
        except ValueError as error:
            raise ValueError(f'{error}. Or remove ChannelOrderHook from custom_hooks') from error
        name = self.importance if isinstance(self.importance, str) else score.__name__
        runner.logger.info(
            f'ChannelOrderHook ordered {order.groups} channel groups of {source} by the importance {name}'
        )


def _is_mutual_file(source: str) -> bool:
    return Path(source).is_file() and is_mutual(read_checkpoint(source))


def _of_first_process(score: Importance) -> Importance:
    """Let all processes order by the scores of the first.

    The processes have the same weights, but sums may round differently on different machines, and one other order
    would mix up the channels of the processes when they average their gradients.
    """

    @wraps(score, updated=())
    def shared(group: ChannelGroup, layers: Mapping[str, nn.Module]) -> Tensor:
        scores = torch.as_tensor(score(group, layers)).detach().double().cpu()
        broadcast(scores)
        return scores

    return shared
