"""The options that all tools have which start MMEngine's runner."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

from mmengine.config import DictAction

from .processes import set_rank


def parse_run_args(parser: ArgumentParser, overridden: str = 'settings of the config') -> Namespace:
    """Add ``--cfg-options``, ``--launcher`` and ``--local_rank``, as in mmdet's tools, and read the command line.

    The environment variable ``LOCAL_RANK`` is set, unless the launcher has set it, and so is ``RANK``.

    Args:
        parser: The parser of the tool.
        overridden: The settings that ``--cfg-options`` override, for the help.

    Returns:
        The arguments.
    """
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help=f'override {overridden}'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    set_rank(args.launcher)
    return args
