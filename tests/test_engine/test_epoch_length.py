"""The iterations of an epoch, which the processes of a training share."""

import pytest
from mmengine.config import Config

from mmmutual.engine import epoch_length


def config_for(batch_size: int, sampler: str = 'DefaultSampler', **options: object) -> Config:
    sampler = dict(type=sampler, shuffle=True)
    loader = dict(batch_size=batch_size, num_workers=0, sampler=sampler, dataset=[0] * 8, **options)
    return Config(dict(train_dataloader=loader))


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


def test_a_last_batch_that_is_left_out(monkeypatch):
    assert epoch_length(config_for(3, drop_last=True)) == 2
    batches = dict(type='AspectRatioBatchSampler', drop_last=True)
    assert epoch_length(config_for(3, batch_sampler=batches)) == 2
    monkeypatch.setenv('WORLD_SIZE', '3')
    assert epoch_length(config_for(2, drop_last=True), 'pytorch') == 1  # of 3 images


def test_a_set_number_of_batches(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    assert epoch_length(config_for(1, num_batch_per_epoch=3), 'pytorch') == 3
