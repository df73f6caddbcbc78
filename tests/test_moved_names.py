"""Names that moved are importable from where they were, with a warning."""

from importlib import import_module

import pytest


@pytest.mark.parametrize(
    ('module', 'name', 'place'),
    [
        ('mmmutual.apis', 'AdaptiveInferencer', 'mmmutual.inference'),
        ('mmmutual.apis', 'make_mutual', 'mmmutual.config'),
        ('mmmutual.apis', 'read_checkpoint', 'mmmutual.checkpoint'),
        ('mmmutual.analysis', 'QueryTable', 'mmmutual.evaluation'),
        ('mmmutual.analysis', 'plot_front', 'mmmutual.evaluation.plotting'),
        ('mmmutual.engine', 'scale_pipeline', 'mmmutual.config'),
    ],
)
def test_the_former_place_warns(module, name, place):
    with pytest.warns(DeprecationWarning, match=f'{module}.{name} is deprecated .* use {place}.{name}$'):
        found = getattr(import_module(module), name)
    assert found is getattr(import_module(place), name)


@pytest.mark.parametrize('module', ['mmmutual.apis', 'mmmutual.analysis', 'mmmutual.engine'])
def test_every_name_is_there_and_others_are_not(module):
    module = import_module(module)
    places = module.__getattr__.__closure__
    names = next(cell.cell_contents for cell in places if isinstance(cell.cell_contents, dict))
    with pytest.warns(DeprecationWarning):
        assert all(getattr(module, name) is not None for name in names)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing
