"""Check that a config of mmdet, with less data and smaller images, can be made mutual and agrees with stock."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, MutableMapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmmutual.config import load_config, make_mutual_with_plan
from mmmutual.config_tree import nested_dicts, rebuilt, walk
from mmmutual.engine import MutualLearningHook
from mmmutual.layers import use_width

from .mended_mmdet import mend_mmdet
from .small_config import OTHER_DATA, demo_batch, image_size, shrink

WIDTHS = (1.0, 0.5, 0.25)


class Slimming(NamedTuple):
    """The compute of a config that slims.

    Attributes:
        share: The slimmable share of the detector's multiply-adds, in [0, 1].
        remaining: The share of the multiply-adds that remains at the smallest of ``WIDTHS``, in (0, 1].
    """

    share: float
    remaining: float


def check_config(name: str, scope: str = 'backbone') -> Slimming:
    """Make a config mutual and compare it with stock.

    Args:
        name: As ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``.
        scope: The part that is slimmable: ``'backbone'`` or ``'detector'``.

    Returns:
        How much of it slims.

    Raises:
        ImportError: If it needs a package that is not installed.
        ValueError: If it cannot be made mutual, or if a check fails.
    """
    MMLogger.get_instance('mmengine', log_level='ERROR')
    mend_mmdet()
    config = shrink(load_config(name))
    size, scales = image_size(config)
    mutual_config, plan = make_mutual_with_plan(config, WIDTHS, scales, scope)
    slimming = Slimming(plan.share, plan.remaining(min(WIDTHS)))
    del plan  # with its detector
    kind = config.model.type
    _require(kind not in OTHER_DATA, f'{kind} can be made mutual, but the check has no {OTHER_DATA.get(kind)} for it')
    _thaw_alike(config.model, mutual_config.model)
    torch.manual_seed(0)
    stock, mutual = MODELS.build(config.model), MODELS.build(mutual_config.model)
    stock.init_weights()
    for key, value in stock.named_parameters():
        if key.endswith('fc_reg.weight'):
            value.data *= 0.01  # keep boxes on the image, as a trained detector does; mmdet only pastes masks there
    _begin_training()
    missing = mutual.load_state_dict(stock.state_dict(), strict=False)
    _require(not missing.missing_keys and not missing.unexpected_keys, f'checkpoint keys differ: {missing}')
    if hasattr(stock, 'teacher_model'):
        mutual.teacher_model = stock.teacher_model  # it is not in the checkpoint
    loads = [node for node in nested_dicts(config.to_dict()) if str(node.get('type')).startswith('Load')]
    with_mask = any(node.get('with_mask', 'Panoptic' in node['type']) for node in loads)
    batch = demo_batch(stock, size, with_mask)
    try:
        predictions, losses = _predict(stock, batch), _losses(stock, batch)
    except Exception as error:
        raise ValueError(f'the stock detector itself fails: {type(error).__name__}: {error}') from error
    _compare(_predict(mutual, batch), predictions, 'predictions')
    _compare(_losses(mutual, batch), losses, 'losses')
    without = {key for key, value in stock.named_parameters() if value.requires_grad and value.grad is None}
    gradients = _mutual_iteration(mutual, batch, scales)
    lacking = [key for key, value in gradients.items() if value is None and key not in without]
    _require(not lacking, f'{len(lacking)} parameters have no gradient, the first is {lacking[:1]}')
    infinite = [key for key, value in gradients.items() if value is not None and not value.isfinite().all()]
    _require(not infinite, f'{len(infinite)} gradients are not finite, the first is {infinite[:1]}')
    for width in WIDTHS:
        with use_width(mutual, width):
            _predict(mutual, batch)
    return slimming


def _begin_training() -> None:
    """Set the values that some heads read from MMEngine's message hub."""
    hub = MessageHub.get_instance('config_check')
    for name in ('epoch', 'iter'):
        hub.update_info(name, 0)


def _thaw_alike(stock: MutableMapping, mutual: Mapping) -> None:
    """Train the norms and the stem in both detectors, so that their losses can be compared."""
    for name, part in stock.items():
        if isinstance(part, MutableMapping):
            _thaw_alike(part, mutual[name])
    for option in {'norm_eval', 'frozen_stages', 'eps'} & set(mutual):
        stock[option] = mutual[option]


def _mutual_iteration(model: nn.Module, batch: dict, scales: tuple[float, ...]) -> dict[str, Tensor | None]:
    """One iteration with the hook as MMEngine's loop runs it; the gradients that the optimizer gets."""
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.SGD(parameters.values(), lr=1e-6)
    gradients: dict[str, Tensor | None] = {}

    def keep(*_: Any) -> None:
        gradients.update({name: value.grad for name, value in parameters.items()})

    optimizer.register_step_pre_hook(keep)
    wrapper = OptimWrapper(optimizer)
    hub = MessageHub.get_current_instance()
    runner = SimpleNamespace(
        cfg={}, model=model, optim_wrapper=wrapper, seed=0, iter=0, max_iters=10, message_hub=hub, hooks=[]
    )
    hook = MutualLearningHook(WIDTHS, scales, num_subnets=3)
    model.train()
    wrapper.zero_grad()
    hook.before_run(runner)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0, copy.deepcopy(batch))
    losses = model.train_step(copy.deepcopy(batch), optim_wrapper=wrapper)
    hook.after_train_iter(runner, 0, copy.deepcopy(batch))
    hook.after_train(runner)
    infinite = [name for name, value in losses.items() if not torch.as_tensor(value).isfinite().all()]
    _require(not infinite, f'the losses {infinite} are not finite')
    return gradients


def _losses(model: nn.Module, batch: dict) -> dict:
    model.train()
    torch.manual_seed(0)
    np.random.seed(0)
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    losses = model(**data, mode='loss')
    model.parse_losses(losses)[0].backward()
    return losses


@torch.no_grad()
def _predict(model: nn.Module, batch: dict) -> list:
    model.eval()
    torch.manual_seed(0)
    return model.test_step(copy.deepcopy(batch))


def _compare(ours: Any, theirs: Any, what: str) -> None:
    """Raise unless all tensors in two nested results are equal."""
    ours, theirs = list(_tensors(ours)), list(_tensors(theirs))
    same = len(ours) == len(theirs) > 0 and all(torch.equal(a, b) for a, b in zip(ours, theirs))
    _require(same, f'the {what} of width 1.0 differ from those of the stock detector')


def _tensors(node: object) -> Iterator[Tensor]:
    """All tensors and arrays in nested results, for a comparison in which NaN equals NaN."""
    for _, value in walk(rebuilt(node, _opened)):
        if isinstance(value, (Tensor, np.ndarray)):
            yield torch.nan_to_num(torch.as_tensor(value).detach().float(), nan=-1.0)


def _opened(value: object) -> object:
    return dict(sorted(value.items())) if isinstance(value, BaseDataElement) else value


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
