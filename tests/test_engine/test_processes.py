"""The processes of a distributed run, as the launchers count them."""

import argparse
import sys

import pytest

from mmmutual.engine import is_first_process
from mmmutual.engine.run_options import parse_run_args


@pytest.mark.parametrize(('launcher', 'variable'), [
    ('slurm', 'SLURM_PROCID'), ('mpi', 'OMPI_COMM_WORLD_RANK'), ('pytorch', 'RANK')
])  # fmt: skip
def test_only_one_process_is_the_first(launcher, variable, monkeypatch):
    for rank in ('0', '1'):
        monkeypatch.setenv('RANK', '')  # restored afterwards
        monkeypatch.delenv('RANK')
        monkeypatch.setenv('LOCAL_RANK', rank)
        monkeypatch.setenv(variable, rank)
        monkeypatch.setattr(sys, 'argv', ['tool', '--launcher', launcher])
        parse_run_args(argparse.ArgumentParser())
        assert is_first_process() == (rank == '0')


def test_without_a_launcher_a_job_of_slurm_is_one_process(monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setenv('SLURM_PROCID', '1')
    monkeypatch.setattr(sys, 'argv', ['tool'])
    parse_run_args(argparse.ArgumentParser())
    assert is_first_process()
