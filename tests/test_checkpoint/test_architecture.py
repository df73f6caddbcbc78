"""The architecture of a checkpoint against that of the model."""

import pytest
import torch
from torch import nn

from mmmutual.checkpoint import check_architecture, read_checkpoint
from tests.support.checkpoints import content, layers


def checkpoint_of(model: nn.Module, **changes) -> dict:
    """A checkpoint with some entries changed; None removes one."""
    state = {**model.state_dict(), **{key.replace('__', '.'): value for key, value in changes.items()}}
    return dict(state_dict={key: value for key, value in state.items() if value is not None})


class TestArchitecture:
    def test_equal(self):
        assert check_architecture(layers(), content(), 'a.pth') is None

    def test_prefix_of_parallel_models(self, path):
        torch.save(checkpoint_of(nn.DataParallel(layers())), path)
        check_architecture(layers(), read_checkpoint(path), path)
        inner = nn.ModuleDict({'neck': nn.ModuleDict({'module': layers()})})  # only the first prefix goes
        torch.save(checkpoint_of(inner), path)
        check_architecture(inner, read_checkpoint(path), path)

    def test_more_than_the_model_has(self):
        check_architecture(layers(), checkpoint_of(layers(), head__weight=torch.ones(2)), 'a.pth')

    def test_buffers_missing(self):
        buffers = dict.fromkeys(name.replace('.', '__') for name, _ in layers().named_buffers())
        assert len(buffers) == 3
        check_architecture(layers(), checkpoint_of(layers(), **{f'{name}': None for name in buffers}), 'a.pth')

    @pytest.mark.parametrize(
        'changes, counts, examples',
        [
            ({'0__weight': None}, '1 are missing and 0 have another shape', '0.weight'),
            (
                {'0__weight': None, '1__bias': None, '2__bias': None},
                '3 are missing and 0 have another shape',
                '0.weight, 1.bias, 2.bias',
            ),
            (
                {'2__weight': torch.ones(5, 4)},
                '0 are missing and 1 have another shape',
                r'2.weight \(5, 4\) instead of \(2, 4\)',
            ),
            (
                {'1__bias': None, '2__weight': torch.ones(5, 4)},
                '1 are missing and 1 have another shape',
                r'1.bias, 2.weight \(5, 4\) instead of \(2, 4\)',
            ),
            (
                {'1__weight': torch.ones(())},
                '0 are missing and 1 have another shape',
                r'1.weight \(\) instead of \(4,\)',
            ),
        ],
    )
    def test_other(self, changes, counts, examples):
        with pytest.raises(
            ValueError,
            match=(
                f'^the checkpoint a.pth has another architecture than the config: of 6 parameters {counts}, '
                f'for example {examples}. Pass the config that the checkpoint was trained with; a training writes it next to '
                'the checkpoint$'
            ),
        ):
            check_architecture(layers(), checkpoint_of(layers(), **changes), 'a.pth')

    def test_examples_are_few(self):
        with pytest.raises(ValueError, match='6 are missing.*for example 0.weight, 0.bias, 1.weight. Pass'):
            check_architecture(layers(), dict(state_dict={}), 'a.pth')
