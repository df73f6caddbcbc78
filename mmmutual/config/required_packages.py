"""Check that the optional packages that a config needs are installed, before a model is built."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from mmdet.models.reid import BaseReID
from torch import nn

from mmmutual.config_tree import nested_dicts, type_name
from mmmutual.environment import find_mmpretrain

MMPRETRAIN = 'mmpretrain'
# mmdet's and mmpretrain's classes that need an optional package; they look for it only when they are built or run.
PACKAGES = {
    'BaseReID': MMPRETRAIN,
    'BertModel': 'transformers',
    'Detectron2Wrapper': 'detectron2',
    'TIMMBackbone': 'timm',
}


def check_packages(model: Mapping) -> None:
    """Check that the packages that a model's config needs are installed.

    ``mmpretrain`` is also found in the separate folder that ``make pretrain`` installs it into.

    Args:
        model: The config of a model.

    Raises:
        ImportError: If a package is missing, with the class that needs it and the package to install.
    """
    for part in nested_dicts(model):
        kind = type_name(part)
        if f'{part.get("type")}'.startswith(f'{MMPRETRAIN}.') or PACKAGES.get(kind) == MMPRETRAIN:
            find_mmpretrain(kind)
        if kind == 'BaseReID' and not issubclass(BaseReID, nn.Module):
            raise ImportError(
                f'{kind} needs {MMPRETRAIN} already when mmdet is imported, but it was found in a separate folder: '
                f'install {MMPRETRAIN} into the environment of mmdet, or choose a config of a detector'
            )
        package = PACKAGES.get(kind, MMPRETRAIN)
        if package != MMPRETRAIN and find_spec(package) is None:
            raise ImportError(
                f'{kind} in the config needs {package}, which is not installed: install {package}, or '
                'choose another config'
            )
