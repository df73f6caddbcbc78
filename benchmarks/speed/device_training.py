"""The checks of training on a device."""

from __future__ import annotations

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from .device_setting import WIDTHS, Fault, Setting, check_operators
from .iterations import TimedIteration

LOSS_TOLERANCE = 1e-2  # relative: with other rounding, other proposals pass a threshold
ATTEMPTS = 8  # iterations in which the loss scale may become small enough for a step


def check_iterations(setting: Setting) -> None:
    """The losses of mutual iterations are those of the CPU."""
    found, expected = (_losses(each) for each in (setting, setting.on_cpu()))
    for number, (ours, theirs) in enumerate(zip(found, expected), 1):
        if any(not abs(a - b) <= LOSS_TOLERANCE * abs(b) for a, b in zip(ours, theirs)):
            raise Fault(f'the losses of iteration {number} are {rounded(ours)}, those of the CPU {rounded(theirs)}')


def _losses(setting: Setting) -> list[list[float]]:
    model = setting.detector()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9))
    mutual = TimedIteration(model, setting.batch(), WIDTHS, wrapper)
    return [mutual() for _ in range(setting.iterations)]


def check_float16(setting: Setting) -> None:
    """Mutual iterations in float16 reach a step, after the loss scale has been reduced if necessary."""
    check_operators(setting)
    _train_mixed(setting, setting.config(), 'float16')


def check_bfloat16(setting: Setting) -> None:
    """The same in bfloat16 with the RPN alone, because mmcv's RoIAlign does not support bfloat16."""
    config = setting.config()
    parts = ('data_preprocessor', 'backbone', 'neck', 'rpn_head', 'train_cfg', 'test_cfg')
    config.model = dict(type='RPN', **{name: config.model[name] for name in parts})
    _train_mixed(setting, config, 'bfloat16')


def _train_mixed(setting: Setting, config: Config, dtype: str) -> None:
    torch.manual_seed(0)
    model = MODELS.build(config.model).to(setting.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    wrapper = AmpOptimWrapper(loss_scale='dynamic', dtype=dtype, optimizer=optimizer)
    mutual = TimedIteration(model, setting.batch(), WIDTHS, wrapper)  # raises an error at a loss that is not finite
    weight = model.backbone.conv1.weight
    before = weight.detach().clone()
    for _ in range(ATTEMPTS):
        mutual()
        if not torch.equal(weight, before):
            break
    else:
        scale = wrapper.loss_scaler.get_scale()
        raise Fault(f'the optimizer has made no step in {ATTEMPTS} iterations of {dtype}; the loss scale is {scale:g}')
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise Fault(f'a step in {dtype} has made weights that are not finite')


def rounded(values: list[float]) -> str:
    """Numbers for a message."""
    return ', '.join(f'{value:.4f}' for value in values)
