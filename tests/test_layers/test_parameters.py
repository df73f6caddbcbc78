"""Parameters outside layers: modules read the active channels; checkpoints, optimizers and copies have them all."""

import copy
import pickle

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch import nn

import mmmutual
from mmmutual.layers import Segment, SlimParameters, slim_parameters_, unslim_parameters_

TWO = (Segment(8, 4), Segment(8, 4))
ACTIVE = [*range(4), *range(8, 12)]  # at width 0.5


class Embedded(nn.Module):
    """A parameter that slims, and one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed, self.gain = nn.Parameter(torch.rand(1, 5, 16)), nn.Parameter(torch.rand(5, 1))

    def forward(self, x):
        return x + self.pos_embed * self.gain


def slim_one() -> Embedded:
    module = Embedded()
    slim_parameters_(module, dict(pos_embed=TWO))
    return module


def saved(module: nn.Module, path) -> nn.Module:
    torch.save(module, path)
    return torch.load(path, weights_only=False)


def test_a_module_reads_the_active_channels():
    module, stock = slim_one(), Embedded()
    stock.load_state_dict(module.state_dict())
    x = torch.rand(2, 5, 16)
    assert isinstance(module, Embedded) and type(module).__name__ == 'Embedded'
    assert module.pos_embed is dict(module.named_parameters())['pos_embed'] and torch.equal(module(x), stock(x))
    mmmutual.set_width(module, 0.5)
    assert module.pos_embed.shape == (1, 5, 8) and module.gain.shape == (5, 1)
    assert torch.equal(module(x[..., ACTIVE]), stock(x)[..., ACTIVE])


def test_checkpoints_have_all_channels_at_every_width():
    module, stock = slim_one(), Embedded()
    mmmutual.set_width(module, 0.5)
    assert module.state_dict()['pos_embed'].shape == (1, 5, 16)
    module.load_state_dict(stock.state_dict())
    assert torch.equal(module.pos_embed, stock.pos_embed[..., ACTIVE])
    stock.load_state_dict(module.state_dict())


def test_an_optimizer_changes_the_active_channels():
    module = slim_one()
    before = module.pos_embed.detach().clone()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=0)
    mmmutual.set_width(module, 0.5)
    module(torch.rand(2, 5, 8)).square().sum().backward()
    optimizer.step()
    mmmutual.set_width(module, 1.0)
    changed = (module.pos_embed != before)[0].all(0)
    assert changed.nonzero().flatten().tolist() == ACTIVE
    assert optimizer.state[module.pos_embed]['exp_avg'].shape == (1, 5, 16)


@pytest.mark.parametrize('kind', ['deepcopy', 'pickle', 'save'])
def test_a_copy_is_slimmable_and_independent(kind, tmp_path):
    module = slim_one()
    mmmutual.set_width(module, 0.5)
    copied = {
        'deepcopy': copy.deepcopy,
        'pickle': lambda each: pickle.loads(pickle.dumps(each)),
        'save': lambda each: saved(each, tmp_path / 'module.pth'),
    }[kind](module)
    assert isinstance(copied, SlimParameters) and copied.width == 0.5
    assert torch.equal(copied.pos_embed, module.pos_embed)
    mmmutual.set_width(copied, 1.0)
    nn.init.zeros_(copied.pos_embed)
    assert copied.pos_embed.shape == (1, 5, 16) and module.pos_embed.shape == (1, 5, 8) and module.pos_embed.all()
    unslim_parameters_(copied)
    assert type(copied) is Embedded


def test_an_average_has_all_channels():
    module = slim_one()
    average = ExponentialMovingAverage(module, momentum=0.5)
    mmmutual.set_width(module, 0.5)
    before = module.state_dict()['pos_embed'].clone()
    nn.init.zeros_(dict(module.named_parameters())['pos_embed'])
    average.update_parameters(module)  # the first copies
    assert not average.module.state_dict()['pos_embed'].any() and before.all()
    nn.init.ones_(dict(module.named_parameters())['pos_embed'])
    average.update_parameters(module)
    assert torch.equal(average.module.pos_embed, torch.full((1, 5, 16), 0.5))


def test_the_rows_of_an_embedding():
    embedding = nn.Embedding(5, 16)
    weight = embedding.weight
    slim_parameters_(embedding, dict(weight=TWO))
    mmmutual.set_width(embedding, 0.5)
    assert torch.equal(embedding(torch.tensor([3, 1])), weight[[3, 1]][:, ACTIVE])
    unslim_parameters_(embedding)
    assert type(embedding) is nn.Embedding and embedding.weight is weight


def test_undo_leaves_nothing():
    module = Embedded()
    before, parameter = set(vars(module)), module.pos_embed
    slim_parameters_(module, dict(pos_embed=TWO))
    mmmutual.set_width(module, 0.5)
    unslim_parameters_(module)
    assert type(module) is Embedded and set(vars(module)) == before and module.pos_embed is parameter
    unslim_parameters_(module)
    assert type(module) is Embedded


def test_another_parameter_may_replace_it():
    module = slim_one()
    mmmutual.set_width(module, 0.5)
    module.pos_embed = nn.Parameter(torch.ones(1, 5, 16))
    assert torch.equal(module.pos_embed, torch.ones(1, 5, 8)) and len(list(module.parameters())) == 2
