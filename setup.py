"""Packaging: `pip install -e . --no-deps` in an environment that has the stack (see requirements/)."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """Lines of requirements/NAME.txt without comments and options."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith(('#', '-'))]


def version() -> str:
    """``__version__`` as written in the package."""
    text = (ROOT / 'mmmutual' / '__init__.py').read_text()
    return text.split("__version__ = '")[1].split("'")[0]


class BuildWithConfigs(build_py):
    """Puts configs, tools and the model index into the wheel, as ``mmmutual/.mim``, where mim looks for them."""

    def run(self) -> None:
        """Copy the package, then these."""
        super().run()
        if self.editable_mode:
            return  # they are used where they are
        target = Path(self.build_lib) / 'mmmutual' / '.mim'
        shutil.rmtree(target, ignore_errors=True)  # of a former build
        for folder in ('configs', 'tools'):
            shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns('__pycache__'))
        shutil.copy(ROOT / 'model-index.yml', target)


setup(
    name='mmmutual',
    version=version(),
    description='MutualNet for MMDetection: one detector, many widths and input scales',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmmutual', 'mmmutual.*']),
    cmdclass={'build_py': BuildWithConfigs},
    python_requires='>=3.10',
    extras_require={
        'demo': requirements('demo'),
        'onedl': requirements('onedl'),
        'openmmlab': requirements('openmmlab'),
        'deploy': requirements('deploy'),
        'tests': requirements('tests') + requirements('deploy'),
    },
)
