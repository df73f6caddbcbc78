"""The command-line tools as modules."""

import importlib.util
from types import ModuleType

from tests.support.tiny import ROOT


def load_tool(name: str) -> ModuleType:
    """The module of a tool, by its path below ``tools/``."""
    spec = importlib.util.spec_from_file_location(f'{name.split("/")[-1][:-3]}_tool', ROOT / 'tools' / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
