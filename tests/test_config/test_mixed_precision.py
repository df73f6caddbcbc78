"""The changes of --amp to a config."""

import pytest
from mmengine.config import ConfigDict

import mmmutual.config.mixed_precision as module
from mmmutual.config import use_mixed_precision


def made(**wrapper) -> dict:
    config = ConfigDict(optim_wrapper=wrapper)
    use_mixed_precision(config)
    return config.optim_wrapper


@pytest.mark.parametrize('wrapper', [dict(type='OptimWrapper'), dict(type='mmengine.OptimWrapper'), {}], ids=str)
def test_of_a_stock_wrapper(wrapper):
    assert made(**wrapper) == dict(type='AmpOptimWrapper', loss_scale='dynamic')


@pytest.mark.parametrize(
    'wrapper',
    [
        dict(type='AmpOptimWrapper', loss_scale=512.0),
        dict(type='AmpOptimWrapper', dtype='bfloat16'),
        dict(type='AmpOptimWrapper', loss_scale=dict(init_scale=2.0)),
    ],
    ids=str,
)
def test_a_config_that_sets_it_up_itself_stays(wrapper, monkeypatch):
    said = []
    monkeypatch.setattr(module, 'print_log', lambda message, **_: said.append(message))
    assert made(**wrapper) == wrapper
    assert said[0].startswith('--amp changes nothing: the config has an AmpOptimWrapper, with loss_scale=')


def test_another_wrapper_is_named():
    with pytest.raises(ValueError, match="--amp replaces .* but the config has optim_wrapper.type='ApexOptimWrapper'"):
        made(type='ApexOptimWrapper')
