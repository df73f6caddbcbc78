"""The packages that mmmutual extends: errors if one is missing, and safe loading of their checkpoints.

Two stacks share their import names: OneDL (maintained) and OpenMMLab.
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
    "`make install` sets up everything in .venv; for your own environment, see 'Installation' in the README: "
    '`pip install -r requirements/onedl.txt`'
)

NOTICE = 'Could not import OneDL'

MMPRETRAIN_FOLDER = Path(sys.prefix) / 'mmpretrain'
MEND_MMPRETRAIN = (
    '`make pretrain` installs it in a separate folder of the environment; in your own environment with torchvision, '
    '`pip install onedl-mmpretrain` (for the upstream stack mmpretrain)'
)
# ``std::vector::size`` as a separate function: any optimisation replaces its calls by its only instruction
CALLED_SIZE = re.compile(rb'_ZNKSt(?:3__1)?6vectorI\w+?E4size')
MEND_OPERATORS = (
    'CFLAGS="-O2 -g0" CXXFLAGS="-O2 -g0" MMCV_WITH_OPS=1 pip install --force-reinstall --no-deps --no-cache-dir '
    '--no-build-isolation {requirement}'
)
PACKAGES = ('torch', 'onedl-mmengine', 'mmengine', 'onedl-mmcv', 'mmcv', 'onedl-mmdetection', 'mmdet', 'pycocotools')
NMS_SCHEMA = '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'  # of torchvision's operators
_libraries: list = []  # declarations end with the library objects


def check_stack(pieces: tuple[str, ...] = PIECES) -> None:
    """Import the packages that mmmutual extends.

    Args:
        pieces: Names of modules.

    Raises:
        ImportError: If a module is missing or incompatible, with its name and the command to install it.
    """
    for piece in pieces:
        try:
            import_module(piece)
        except (ImportError, AssertionError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ImportError(f'mmmutual needs {piece}, which does not import here ({reason}). {MEND}') from error
    import_without_notices()


def import_without_notices() -> None:
    """Import mmdet's data sets and metrics without their notices about optional packages.

    Otherwise every program would print these notices first. All other output is printed.
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
        False if it calls functions that every optimisation inlines.
    """
    return CALLED_SIZE.search(Path(library).read_bytes()) is None


def installed_versions() -> dict[str, str]:
    """Versions of the installed packages of the stack."""
    return {name: metadata.version(name) for name in PACKAGES if _installed(name)}


def operators_advice() -> str | None:
    """Advice if mmcv's operators were compiled without optimisation; None otherwise.

    ``CFLAGS`` in the environment replaces the flags that Python was built with, including ``-O3``. Compiled with
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
    """Let ``torch.load(weights_only=True)`` read the objects that MMEngine writes into a checkpoint.

    Upstream MMEngine 0.10.7 stores its log buffers in checkpoints and cannot resume them under torch 2.6 and later,
    whose safe loader refuses unregistered classes. The classes registered here only hold data. They are registered with
    names, since OneDL's MMEngine unregisters classes without names each time it has loaded a checkpoint.
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

    if owner is not HistoryBuffer:  # not an UnpicklingError: OneDL's MMEngine would then load the file unsafely
        raise ValueError(f'refused to read the attribute {name!r} of {owner!r} from a checkpoint')
    return getattr(owner, name)


def find_mmpretrain(user: str = 'a classifier') -> None:
    """Make mmpretrain importable, and register its modules.

    Args:
        user: The class or module that needs it, for the message.

    Raises:
        ImportError: If it is missing or does not import, with the command to install it.
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
            f'{user} needs mmpretrain, which does not import here ({reason}). {MEND_MMPRETRAIN}'
        ) from error


def _import_torchvision() -> None:
    """Import torchvision, which mmpretrain needs, even if its compiled operators do not load.

    The published wheel of torchvision 0.28.0 is built for CUDA. With a CPU-only torch 2.13.0 its import fails with
    "operator torchvision::nms does not exist". Declaring the operators is enough, since classifiers do not call them.
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
