"""All tests of this folder carry the marker ``integration``."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    """Called once with the tests of all folders."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)
