"""One config of each folder of mmdet becomes mutual, or is refused with one sentence that names what is in the way."""

import re

import pytest
import torch

from mmmutual.config import build_model, load_config, make_mutual
from mmmutual.testing.small_config import CONFIGS

FOLDERS = sorted(path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != '_base_')
SMALL = ('r18', 'tiny', '_s_', 'r50', '-t-', 'b0')  # in the names of small models
REFUSED = (
    r'^\w+ (has no backbone|consists of several models|with the backbone \w+ cannot|(in the config )?needs \w+, which)'
)
SEVERAL = {'bytetrack', 'deepsort', 'masktrack_rcnn', 'ocsort', 'qdtrack', 'soft_teacher', 'strongsort'}


def small_config(folder: str):
    """The config of the smallest model of a folder, by its name."""
    paths = (CONFIGS / folder).rglob('*.py')
    for path in sorted(paths, key=lambda path: (min([n for n, s in enumerate(SMALL) if s in path.name] or [9]), path)):
        try:
            config = load_config(f'mmdet::{path.relative_to(CONFIGS)}')
        except (ImportError, FileNotFoundError):
            continue  # it needs a package that is not there
        if config.get('model'):
            for part in (config.model, config.model.get('backbone') or {}):
                part.update(dict.fromkeys({'init_cfg', 'pretrained', 'teacher_ckpt'} & set(part)))
            return config
    pytest.skip('no config of a model that can be read here')


@pytest.fixture(autouse=True)
def _no_random_weights(monkeypatch):
    """Random numbers need most of the time of building a model."""
    for name in ('kaiming_uniform_', 'kaiming_normal_', 'normal_', 'trunc_normal_', 'uniform_', 'xavier_uniform_'):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor.data.zero_())


@pytest.mark.usefixtures('without_mmpretrain')
@pytest.mark.parametrize('folder', FOLDERS)
def test_becomes_mutual_or_says_why_not(folder):
    stock = small_config(folder)
    try:
        mutual = make_mutual(stock, (1.0, 0.5, 0.25), (1.0,))
    except (ImportError, ValueError) as error:
        assert re.search(REFUSED, str(error)) and '\n' not in str(error), error
    else:
        assert folder not in SEVERAL
        assert (mutual.model.type, mutual.model.detector) == ('SlimmableDetector', stock.model.type)
        build_model(mutual)  # no stock detector is taken for one whose parts do not fit each other
