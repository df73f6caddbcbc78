import pytest


@pytest.fixture
def path(tmp_path):
    """Where a test writes its checkpoint."""
    return tmp_path / 'checkpoint.pth'
