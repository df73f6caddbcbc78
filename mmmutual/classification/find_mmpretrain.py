"""mmpretrain beside the environment: one that ``make pretrain`` has put into a folder of its own is found there."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

FOLDER = Path(sys.prefix) / 'mmpretrain'
MEND = (
    '`make pretrain` puts it beside the environment; in an environment of your own with torchvision, `pip install '
    'onedl-mmpretrain` (for the upstream stack mmpretrain)'
)
BOXES = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
_libraries: list[torch.library.Library] = []  # what is declared lives as long as these


def find_mmpretrain() -> None:
    """Make mmpretrain importable, and register its modules.

    Raises:
        ImportError: If it is not there or does not import, with the command that mends it.
    """
    if find_spec('mmpretrain') is None and FOLDER.is_dir():
        sys.path.append(str(FOLDER))
    try:
        _import_torchvision()
        import_module('mmpretrain.models')
        for part in ('datasets', 'evaluation', 'structures'):
            import_module(f'mmpretrain.{part}')
    except (ImportError, AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImportError(f'classifiers need mmpretrain, which does not import here ({reason}). {MEND}') from error


def _import_torchvision() -> None:
    """Import torchvision, which mmpretrain imports, also where its compiled operators do not load.

    The published wheel of torchvision 0.28.0 is built for CUDA; beside a CPU-only torch 2.13.0 its import fails with
    "operator torchvision::nms does not exist". No classifier calls these operators: that they are declared is enough.
    """
    try:
        import_module('torchvision')
    except RuntimeError as error:
        if 'torchvision::' not in str(error):
            raise
        library = torch.library.Library('torchvision', 'FRAGMENT')
        for operator in ('nms', 'qnms'):
            library.define(operator + BOXES)
        _libraries.append(library)
        import_module('torchvision')
