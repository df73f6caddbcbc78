"""The iterations of an epoch, which the processes of a training share."""

import pytest
from mmengine.config import Config

from mmmutual.engine import epoch_length


def config_for(batch_size: int, sampler: str = 'DefaultSampler') -> Config:
    sampler = dict(type=sampler, shuffle=True)
    return Config(dict(train_dataloader=dict(batch_size=batch_size, num_workers=0, sampler=sampler, dataset=[0] * 8)))


@pytest.mark.parametrize('sampler', ['DefaultSampler', 'InfiniteSampler'])
def test_of_one_process(sampler):
    assert epoch_length(config_for(2, sampler)) == 4
    assert epoch_length(config_for(3, sampler)) == 3


@pytest.mark.parametrize(
    ('launcher', 'variable'), [('pytorch', 'WORLD_SIZE'), ('slurm', 'SLURM_NTASKS'), ('mpi', 'OMPI_COMM_WORLD_SIZE')]
)
def test_of_two_processes(launcher, variable, monkeypatch):
    monkeypatch.setenv(variable, '2')
    assert (epoch_length(config_for(2), launcher), epoch_length(config_for(2))) == (2, 4)
