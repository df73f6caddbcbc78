"""The hook runs the passes in place of the model's train_step: what depends on that is refused or named."""

from types import SimpleNamespace

import pytest
from mmengine.model import BaseModel
from torch import nn

from mmmutual.engine import MutualLearningHook
from mmmutual.engine.train_step_check import check_train_step, warn_of_replaced_train_step
from mmmutual.layers import SlimLinear


class OwnStep(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.head = SlimLinear(8, 8)

    def forward(self, inputs, data_samples=None, mode='loss'):
        raise NotImplementedError

    def train_step(self, data, optim_wrapper):
        raise NotImplementedError


def test_a_train_step_of_the_user_is_refused():
    with pytest.raises(ValueError, match='OwnStep overrides train_step of MMEngine, but Mutual.*to a hook'):
        MutualLearningHook((1.0, 0.5)).check(OwnStep(), {})
    check_train_step(nn.Identity())


@pytest.mark.parametrize('option', ['compile', 'detect_anomalous_params'])
def test_options_without_effect_are_named(option):
    said, model = [], nn.Identity()
    runner = SimpleNamespace(model=model, logger=SimpleNamespace(warning=said.append))
    warn_of_replaced_train_step(runner)
    assert not said
    setattr(model, 'train_step' if option == 'compile' else option, True)
    warn_of_replaced_train_step(runner)
    assert said == [f'{option} has no effect: MutualLearningHook runs the passes of an iteration instead of train_step']
