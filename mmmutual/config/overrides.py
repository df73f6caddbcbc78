"""Override settings of a config from the command line, or reject overrides without effect."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmmutual.config_tree import walk

MAX_NAMED = 4
# The settings that programs read: the arguments of MMEngine's runner, and others that runner, mmdet and mmmutual read.
READ = frozenset(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'} | {
    'compile', 'custom_imports', 'data_help', 'efficient_conv_bn_eval', 'find_unused_parameters', 'model_wrapper_cfg',
    'runner_type', 'sync_bn', 'test_pipeline', 'tta_model', 'tta_pipeline',
}  # fmt: skip


def override(config: Config, options: Mapping[str, Any]) -> None:
    """Replace settings of a config, in place.

    A variable at the top of a config file, for example ``widths``, is copied into other settings when the file is read.
    Replacing the variable afterwards has no effect. This raises an error, or a warning if no copy is found.

    Args:
        config: A config.
        options: Values under dotted names, as in ``--cfg-options``.

    Raises:
        ValueError: If a name does not lead to a setting, or for a variable without effect, with the names of the
            settings that have its value.
    """
    variables = {option: option.split('.')[0] for option in options}
    former = {name: config[name] for name in variables.values() if name in config and name not in READ}
    former = Config(former).to_dict()  # a copy
    try:
        config.merge_from_dict(dict(options))
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError) as error:
        reason = str(error).strip('\'"') or type(error).__name__
        raise ValueError(f'--cfg-options {" ".join(options)} does not match the config: {reason}') from error
    for option, name in variables.items():
        if name in READ:
            continue
        given = f'--cfg-options {option}={options[option]!r}'
        if name not in former:
            near = get_close_matches(name, READ, 1)
            meant = f'. Did you mean {option.replace(name, near[0], 1)}?' if near else ', unless your own code does'
            _warn(f'{given} is a new setting, which nothing reads{meant}')
            continue
        copies = list(_copies(config, name, former[name]))
        if copies:
            more = f' and {len(copies) - MAX_NAMED} more' if len(copies) > MAX_NAMED else ''
            raise ValueError(
                f'{given} has no effect: {name} is a variable of the config file, whose former value was already '
                f'copied to {", ".join(copies[:MAX_NAMED])}{more}. Override these settings, or change {name} in a '
                'copy of the file'
            )
        if former[name] != Config({name: config[name]}).to_dict()[name]:
            _warn(
                f'{given} changes a variable of the config file, but not the settings that the file computed from '
                f'{name} when it was read. To change these too, edit {name} in a copy of the file'
            )


def _copies(config: Config, name: str, value: Any) -> Iterator[str]:
    """Dotted names of the read settings that equal a variable; for a common value the name has to match too."""
    common = value is None or isinstance(value, (bool, int, float)) or value in ('', [], {})
    read = {key: value for key, value in config.to_dict().items() if key in READ}
    for keys, setting in islice(walk(read), 1, None):
        place, last = '.'.join(map(str, keys)), str(keys[-1])
        called = last == name or last.endswith(f'_{name}')
        if (called or not common) and type(setting) is type(value) and setting == value:
            yield place
        elif isinstance(value, str) and isinstance(setting, str) and len(value) > 3 and setting.startswith(value):
            yield place  # a path below the variable


def _warn(message: str) -> None:
    print_log(message, logger='current', level=logging.WARNING)
