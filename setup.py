"""The build step that pyproject.toml cannot describe: configs and tools in the wheel."""

import shutil
from pathlib import Path

import setuptools
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent

if int(setuptools.__version__.split('.')[0]) < 77:  # pip does not check the build requirements without build isolation
    raise SystemExit(
        f'mmmutual is built with setuptools 77 or later, but {setuptools.__version__} is installed: '
        'pip install -r requirements/build.txt'
    )


class BuildWithConfigs(build_py):
    """Adds configs, tools and the model index to the wheel, as ``mmmutual/.mim``, where mim searches for them."""

    def run(self) -> None:
        """Copy the package, then configs, tools and the model index."""
        super().run()
        if self.editable_mode:
            return  # an editable installation uses the files of the repository
        target = Path(self.build_lib) / 'mmmutual' / '.mim'
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        for folder in ('configs', 'tools'):
            shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns('__pycache__'))
        shutil.copy(ROOT / 'model-index.yml', target)


setuptools.setup(cmdclass={'build_py': BuildWithConfigs})
