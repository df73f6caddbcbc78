"""Print the versions of the environment: python -m mmmutual."""

from mmmutual import __version__
from mmmutual.environment import installed_versions, operators_advice

for name, version in {'mmmutual': __version__, **installed_versions()}.items():
    print(f'{name:18}{version}')
advice = operators_advice()
print(f'warning: {advice}' if advice else 'operators of mmcv: compiled with optimisation')
