"""The processes of a distributed run, before MMEngine connects them."""

from __future__ import annotations

import os

NUMBERS = dict(pytorch='WORLD_SIZE', slurm='SLURM_NTASKS', mpi='OMPI_COMM_WORLD_SIZE')  # set by the launchers
RANKS = dict(slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')  # torchrun sets RANK itself


def count_processes(launcher: str) -> int:
    """The number of processes that a launcher has started.

    Args:
        launcher: The value of ``--launcher``.

    Returns:
        Their number, 1 without a launcher.
    """
    return int(os.environ.get(NUMBERS.get(launcher, ''), 1))


def set_rank(launcher: str) -> None:
    """Set the environment variable ``RANK`` to that of the launcher, as MMEngine does when it connects the processes.

    Args:
        launcher: The value of ``--launcher``.
    """
    rank = os.environ.get(RANKS.get(launcher, ''))
    if rank is not None:
        os.environ['RANK'] = rank


def is_first_process() -> bool:
    """Whether this is the first process of a distributed run, or the only one."""
    return int(os.environ.get('RANK', 0)) == 0
