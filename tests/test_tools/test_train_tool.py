"""Checks and changes of tools/train.py before the training."""

import re

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

from tests.support.tools import load_tool


@pytest.fixture
def train_tool():
    return load_tool('train.py')


class TestStart:
    """Checks of the checkpoint from which tools/train.py starts."""

    STATE = dict(state_dict=nn.Linear(1, 1).state_dict(), meta=dict(epoch=1, iter=2), message_hub={})

    def config(self, work_dir, **options) -> ConfigDict:
        return ConfigDict(work_dir=str(work_dir), **options)

    def test_damaged(self, train_tool, tmp_path):
        (tmp_path / 'cut.pth').write_bytes(b'PK')
        with pytest.raises(ValueError, match='cut.pth cannot be read'):
            train_tool.check_start(self.config(tmp_path, load_from=str(tmp_path / 'cut.pth')))

    def test_newest_of_the_work_dir_is_gone(self, train_tool, tmp_path):
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
        with pytest.raises(FileNotFoundError, match='there is no checkpoint file .*epoch_3.pth'):
            train_tool.check_start(self.config(tmp_path, resume=True))

    @pytest.mark.parametrize('lost', ['meta', 'message_hub'])
    def test_weights_are_no_run_to_resume(self, lost, train_tool, tmp_path):
        path = str(tmp_path / 'weights.pth')
        torch.save({key: value for key, value in self.STATE.items() if key != lost}, path)
        with pytest.raises(ValueError, match=rf'no state of a run to resume.* --cfg-options load_from={path}$'):
            train_tool.check_start(self.config(tmp_path, load_from=path, resume=True))
        train_tool.check_start(self.config(tmp_path, load_from=path))
        torch.save(self.STATE, path)
        train_tool.check_start(self.config(tmp_path, load_from=path, resume=True))

    @pytest.mark.parametrize('options', [{}, dict(resume=True), dict(load_from='https://host/file.pth')], ids=str)
    def test_nothing_to_read(self, options, train_tool, tmp_path):
        train_tool.check_start(self.config(tmp_path, **options))

    @pytest.mark.parametrize(
        ('loop', 'text'),
        [
            (
                dict(max_epochs=1),
                r'nothing was left to train: a.pth is epoch 1 of 1\. To continue training, increase train_cfg.max_epochs',
            ),
            (dict(max_iters=2), 'is iter 2 of 2'),
            (dict(max_epochs=2), '^$'),
            (dict(max_iters=3), '^$'),
        ],
        ids=str,
    )
    def test_a_finished_run_says_so(self, loop, text, train_tool):
        assert re.search(text, train_tool.finished(ConfigDict(train_cfg=loop, load_from='a.pth'), self.STATE))
