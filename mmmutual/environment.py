"""The stack mmmutual extends: one clear sentence if a piece is missing, and safe loading of its checkpoints.

Two stacks share their import names: OneDL (the maintained one) and OpenMMLab.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import warnings
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PIECES = ('torch', 'mmengine', 'mmcv.ops', 'mmdet', 'pycocotools')
MEND = (
    "`make install` sets up everything in .venv; in an environment of your own, see 'Installation' in the README: "
    '`pip install -r requirements/onedl.txt`'
)

NOTICE = 'Could not import OneDL'

MMPRETRAIN_FOLDER = Path(sys.prefix) / 'mmpretrain'
MEND_MMPRETRAIN = (
    '`make pretrain` puts it beside the environment; in an environment of your own with torchvision, `pip install '
    'onedl-mmpretrain` (for the upstream stack mmpretrain)'
)
# ``std::vector::size`` as a function of its own: any optimisation replaces its calls by its one instruction
CALLED_SIZE = re.compile(rb'_ZNKSt(?:3__1)?6vectorI\w+?E4size')
MEND_OPERATORS = (
    'CFLAGS="-O2 -g0" CXXFLAGS="-O2 -g0" MMCV_WITH_OPS=1 pip install --force-reinstall --no-deps --no-cache-dir '
    '--no-build-isolation {requirement}'
)
PACKAGES = ('torch', 'onedl-mmengine', 'mmengine', 'onedl-mmcv', 'mmcv', 'onedl-mmdetection', 'mmdet', 'pycocotools')
NMS_SCHEMA = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'  # of torchvision's operators
_libraries: list = []  # what is declared lives as long as these


def check_stack(pieces: tuple[str, ...] = PIECES) -> None:
    """Import the pieces that mmmutual extends.

    Args:
        pieces: Names of modules.

    Raises:
        ImportError: With the piece that is missing or does not fit the others, and the command that mends it.
    """
    for piece in pieces:
        try:
            import_module(piece)
        except (ImportError, AssertionError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ImportError(f'mmmutual needs {piece}, which does not import here ({reason}). {MEND}') from error
    import_without_notices()


def import_without_notices() -> None:
    """Import mmdet's data sets and metrics without their notices about optional packages that no config asked for.

    Otherwise these would open the output of every program. Whatever else is said is passed on.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as said:
        warnings.filterwarnings('ignore', 'faster_coco_eval is not installed')
        import_module('mmdet.evaluation')
    sys.stdout.writelines(line for line in said.getvalue().splitlines(True) if NOTICE not in line)


def optimised(library: str | Path) -> bool:
    """Whether a compiled library was optimised by its compiler.

    Args:
        library: A shared library of C++ (gcc or clang).

    Returns:
        False if it calls functions that every optimisation replaces by their content.
    """
    return CALLED_SIZE.search(Path(library).read_bytes()) is None


def installed_versions() -> dict[str, str]:
    """Versions of the stack's packages, as far as they are installed."""
    return {name: metadata.version(name) for name in PACKAGES if _installed(name)}


def operators_advice() -> str | None:
    """What to do if mmcv's operators are slow here; None if they are compiled with optimisation.

    ``CFLAGS`` in the environment replaces the flags that Python was built with, ``-O3`` among them. Compiled with
    ``CFLAGS=-g``, RoIAlign and NMS run two to three times slower.
    """
    from .upstream import operators_library

    library = operators_library()
    if optimised(library):
        return None
    name = 'onedl-mmcv' if _installed('onedl-mmcv') else 'mmcv'
    return (
        f"mmcv's operators were compiled without optimisation ({library}): RoIAlign and NMS run two to three times "
        f'slower. Compile them again: {MEND_OPERATORS.format(requirement=f"{name}=={metadata.version(name)}")}'
    )


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def register_safe_globals() -> None:
    """Let ``torch.load(weights_only=True)`` read what MMEngine writes into a checkpoint.

    Upstream MMEngine 0.10.7 stores its log buffers in checkpoints and cannot resume them under torch 2.6 and later,
    whose safe loader refuses classes it does not know. What is registered here only holds data. All goes by its name,
    since OneDL's MMEngine unregisters what goes without whenever it has loaded a checkpoint.
    """
    import numpy as np
    import torch
    from mmengine.logging import HistoryBuffer

    from .upstream import ARRAY_MODULES

    classes = [HistoryBuffer, np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in 'bBhHiIlLqQefd?')]
    rebuild: list[Any] = [value.__reduce__()[0] for value in (np.zeros(1), np.float64(0))]
    torch.serialization.add_safe_globals(
        [
            *((cls, f'{cls.__module__}.{cls.__name__}') for cls in classes),
            *((function, f'{module}.{function.__name__}') for function in rebuild for module in ARRAY_MODULES),
            (_history_buffer_attribute, 'builtins.getattr'),
        ]
    )


def _history_buffer_attribute(owner: object, name: str) -> object:
    """Stand-in for ``getattr``, which pickle uses to name a class's methods."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer:  # no UnpicklingError, upon which OneDL's MMEngine loads the file unsafely
        raise ValueError(f'refused to read the attribute {name!r} of {owner!r} from a checkpoint')
    return getattr(owner, name)


def find_mmpretrain() -> None:
    """Make mmpretrain importable, and register its modules.

    Raises:
        ImportError: If it is not there or does not import, with the command that mends it.
    """
    if find_spec('mmpretrain') is None and MMPRETRAIN_FOLDER.is_dir():
        sys.path.append(str(MMPRETRAIN_FOLDER))
    try:
        _import_torchvision()
        import_module('mmpretrain.models')
        for part in ('datasets', 'evaluation', 'structures'):
            import_module(f'mmpretrain.{part}')
    except (ImportError, AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImportError(
            f'classifiers need mmpretrain, which does not import here ({reason}). {MEND_MMPRETRAIN}'
        ) from error


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
        import torch

        library = torch.library.Library('torchvision', 'FRAGMENT')
        for operator in ('nms', 'qnms'):
            library.define(operator + NMS_SCHEMA)
        _libraries.append(library)
        import_module('torchvision')
