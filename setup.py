"""Packaging: `pip install -e . --no-deps` in an environment that has the stack (see requirements/)."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """Lines of requirements/NAME.txt without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def version() -> str:
    """``__version__`` as written in the package."""
    text = (ROOT / 'mmmutual' / '__init__.py').read_text()
    return text.split("__version__ = '")[1].split("'")[0]


setup(
    name='mmmutual',
    version=version(),
    description='MutualNet for MMDetection: one detector, many widths and input scales',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmmutual', 'mmmutual.*']),
    package_data={'mmmutual': ['.mim/**/*']},
    python_requires='>=3.10',
    extras_require={
        'onedl': requirements('onedl'),
        'openmmlab': requirements('openmmlab'),
        'tests': requirements('tests'),
    },
)
