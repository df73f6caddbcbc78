"""Read a config by its name, as all tools do."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError

from mmmutual.environment import find_mmpretrain
from mmmutual.upstream import is_package_error

from .overrides import override
from .registered_names import with_registered_names

EXAMPLE = 'mmdet::yolox/yolox_s_8xb8-300e_coco.py'


def load_config(name: str | os.PathLike, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config.

    Its ``custom_imports`` may name modules of the current folder. In a config in pure Python (``read_base()``), classes
    are replaced by their registered names.

    Args:
        name: A path, or the name of a config in a package, as ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``.
        options: Settings that replace those of the file, as in ``--cfg-options``; see ``override``.

    Returns:
        The config; its ``filename`` ends in its name.

    Raises:
        FileNotFoundError: If there is no such config.
        ImportError: If it imports a module that is not installed.
        ValueError: If the file is not a config, or for an option without effect.
    """
    name = os.fspath(name)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # python TOOL adds the folder of the tool, not the current one
    config = with_registered_names(_read(name))
    override(config, options or {})
    return config


def _read(name: str) -> Config:
    if '::' not in name:
        if not Path(name).is_file():
            raise FileNotFoundError(
                f'there is no config file {name} on this machine. A config of a package has a name such as {EXAMPLE}'
            )
        if Path(name).suffix not in ('.py', '.json', '.yaml', '.yml'):
            raise ValueError(f'{name} is not a config: its name has to end in .py, .json, .yaml or .yml')
        return _from_file(name)
    path = _packaged(name)
    inherited = inheriting(name)
    if inherited is None:
        return _from_file(path)
    # MMEngine names it after a temporary file, but a run writes the config into the work dir under this name.
    return Config(inherited.to_dict(), cfg_text=inherited.text, filename=str(path))


def _from_file(path: str | Path) -> Config:
    """Read a file; MMEngine's errors do not name the config that inherits from a missing or damaged one."""
    try:
        return _from_existing(path)
    except SyntaxError as error:
        raise ValueError(
            f'the config {path} cannot be read: it, or a config in its _base_, is not valid Python '
            f'({error.msg}, line {error.lineno}: {(error.text or "").strip()})'
        ) from error
    except (FileNotFoundError, ConfigParsingError) as error:
        missing = getattr(error, 'filename', None)
        reason = f'there is no file {os.path.normpath(missing)}' if missing else error
        raise FileNotFoundError(f'the config {path} cannot be read: {reason}. Correct _base_ or read_base()') from error
    except ValueError as error:
        if not is_package_error(error):
            raise
        raise ValueError(
            f'the config {path} cannot be read: a name with :: in its _base_ is not the name of a config, for example '
            f'{EXAMPLE}'
        ) from error


def _from_existing(path: str | Path) -> Config:
    """Read a file; mmpretrain, which its ``custom_imports`` may name, may be installed in a separate folder."""
    try:
        return Config.fromfile(path)
    except ImportError as error:
        reason = _cause(error)
        if (reason.name or '').split('.')[0] != 'mmpretrain':
            raise ImportError(f'the config {path} cannot be read, since an import in it fails: {reason}') from error
    find_mmpretrain(f'the config {path}')
    return Config.fromfile(path)


def _cause(error: ImportError) -> ImportError:
    """The cause of MMEngine's errors about ``custom_imports``, which do not contain the reason."""
    while str(error).startswith('Failed to import') and isinstance(error.__context__, ImportError):
        error = error.__context__
    return error


def _packaged(name: str) -> Path:
    """The file of a config in a package."""
    package, _, path = name.rpartition('::')
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f'there is no config {name}: the package {package} is missing. An example is {EXAMPLE}')
    folder = Path(spec.origin).parent / '.mim' / 'configs'
    if not (folder / path).is_file():
        names = {file.name: file for file in folder.rglob('*.py')}
        near = get_close_matches(Path(path).name, names, 1, cutoff=0.75)
        meant = f'Did you mean {package}::{names[near[0]].relative_to(folder).as_posix()}?' if near else None
        raise FileNotFoundError(f'there is no config {name}. {meant or f"An example is {EXAMPLE}"}')
    return folder / path


def require(config: Mapping, *names: str) -> None:
    """Check that a config has the settings that a command needs.

    Args:
        config: A config.
        *names: Names of settings, for example ``'train_dataloader'``.

    Raises:
        ValueError: If settings are missing or None, with their names.
    """
    lacking = [name for name in names if not config.get(name)]
    if lacking:
        raise ValueError(
            f'the config {getattr(config, "filename", None) or ""} does not set {", ".join(lacking)}. Choose a '
            f'complete config, for example {EXAMPLE}, instead of a base config'
        )


def inheriting(name: str) -> Config | None:
    """A config that inherits from another one.

    Args:
        name: An absolute path, or a name such as ``mmdet::...``.

    Returns:
        The config; None if MMEngine cannot inherit from it: a name with a folder such as gn+ws, pure Python, or an
        import that fails.
    """
    try:
        return Config.fromstring(f'_base_ = {name!r}', '.py')
    except (ImportError, ValueError, RuntimeError):
        return None


def config_name(name: str | os.PathLike) -> str:
    """The bare name of a config, used for its work dir: ``yolox_s`` for ``mmdet::yolox/yolox_s.py``."""
    return Path(os.fspath(name).split('::')[-1]).stem
