"""Checkpoints that are damaged, unsafe or of another architecture are refused with a clear message."""

import random
import re
import shutil
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner, load_checkpoint
from torch import nn

from mmmutual.checkpoint import check_architecture, latest_checkpoint, read_checkpoint
from tests.support.checkpoints import DAMAGED, FORMATS, content, layers, refusal


class Regression(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, *inputs, mode):
        return dict(loss=self.layer(torch.stack(inputs)).square().mean())


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The checkpoint after an epoch of two iterations, and the runner that wrote it."""
    work_dir = tmp_path_factory.mktemp('work')
    runner = Runner(
        Regression(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=list(torch.ones(4, 3)), batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False)
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1)),
        param_scheduler=dict(type='LinearLR', start_factor=0.5, by_epoch=False, end=2),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[dict(type='EMAHook')],
        experiment_name='read_checkpoint',
        default_scope='mmdet',
        log_level='ERROR',
        randomness=dict(seed=0),
    )
    runner.message_hub.update_info('best_score', np.float64(0.5))
    runner.message_hub.update_info('found', np.bool_(True))
    runner.train()
    return work_dir / 'epoch_1.pth', runner


class TestWholeCheckpoint:
    def test_of_a_run(self, trained):
        path, runner = trained
        read = read_checkpoint(path)
        assert read.keys() >= {'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers', 'ema_state_dict'}
        assert read['meta']['iter'] == 2
        assert read['optimizer']['state'][0]['exp_avg'].shape == (1, 3)
        assert read['param_schedulers'] == [scheduler.state_dict() for scheduler in runner.param_schedulers]
        info = read['message_hub']['runtime_info']
        assert (info['best_score'], info['found']) == (0.5, True)
        losses = read['message_hub']['log_scalars']['train/loss']
        assert isinstance(losses, HistoryBuffer)
        logged = runner.message_hub.get_scalar('train/loss')
        assert losses.mean() == logged.mean() > 0
        assert [values.tolist() for values in losses.data] == [values.tolist() for values in logged.data]
        assert read['state_dict'].keys() == {'layer.weight', 'layer.bias'}

    def test_its_weights_fit_its_model(self, trained):
        path, runner = trained
        check_architecture(Regression(), read_checkpoint(path), path)

    def test_str_path(self, trained):
        assert read_checkpoint(str(trained[0])).keys() == read_checkpoint(trained[0]).keys()

    def test_after_mmengine_loaded_one(self, trained):
        """OneDL's MMEngine unregisters the classes it allows."""
        load_checkpoint(Regression(), str(trained[0]))
        assert read_checkpoint(trained[0])

    @FORMATS
    def test_of_torch_save(self, write, path):
        write(content(), path)
        read = read_checkpoint(path)
        assert read['meta'] == dict(epoch=1)
        assert read['state_dict'].keys() == layers().state_dict().keys()

    @FORMATS
    def test_plain_state_dict(self, write, path):
        state = layers().state_dict()
        write(state, path)
        read = read_checkpoint(path)
        assert list(read) == ['state_dict']
        assert all(torch.equal(read['state_dict'][key], value) for key, value in state.items())


class TestDamaged:
    @pytest.mark.parametrize('name', ['missing.pth', '', 'https://host/file.pth'])
    def test_no_file(self, name, tmp_path):
        """A folder is none, neither is an address."""
        path = name if '://' in name else tmp_path / name
        with pytest.raises(FileNotFoundError, match=f'^there is no checkpoint file {path} on this machine$'):
            read_checkpoint(path)

    @FORMATS
    @pytest.mark.parametrize('keep', [0, 1, 10, 100, 0.5, 0.9, -100, -5, -1])
    def test_cut_short(self, write, keep, path):
        whole = write(content(), path)
        path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
        message = refusal(path)
        assert re.search(
            rf'cannot be read: {DAMAGED} \(\w+(: [^)]+)?\)\. Use another checkpoint, or resume from the', message
        )

    def test_cut_short_run(self, trained, path):
        path.write_bytes(trained[0].read_bytes()[:-100])
        assert DAMAGED in refusal(path)

    @pytest.mark.parametrize('data', [b'hello\n' * 20, b'\0' * 100, b'\x80\x02.', b'{"state_dict": {}}', b'PK\3\4'])
    def test_other_file(self, data, path):
        path.write_bytes(data)
        assert DAMAGED in refusal(path)

    @pytest.mark.filterwarnings('ignore:Detected pickle protocol')
    @FORMATS
    def test_random_bytes_changed(self, write, path):
        """Whatever a wrong byte makes PyTorch raise, the message is ours."""
        whole, rng, refused = write(content(), path), random.Random(0), 0
        for _ in range(150):
            damaged = bytearray(whole)
            for _ in range(3):
                damaged[rng.randrange(len(whole))] = rng.randrange(256)
            path.write_bytes(damaged)
            try:
                read_checkpoint(path)
            except ValueError as error:
                assert re.fullmatch(f'the checkpoint {path} .+', str(error)), 'more than one line'
                refused += 1
        assert refused > 50

    def test_long_reason(self, path, monkeypatch):
        path.touch()
        monkeypatch.setattr(torch, 'load', Mock(side_effect=RuntimeError('bad record\nframe #0: c10::Error')))
        assert '(RuntimeError: bad record). Use' in refusal(path)

    @pytest.mark.parametrize(
        'value',
        [
            {},
            [],
            3,
            'state_dict',
            torch.ones(2),
            dict(meta={}),
            dict(state_dict=None),
            dict(state_dict=[torch.ones(2)]),
            dict(weight=torch.ones(2), epoch=3),
            [torch.ones(2)],
        ],
        ids=str,
    )
    def test_no_weights(self, value, path):
        torch.save(value, path)
        assert refusal(path).startswith(f"the checkpoint {path} has no weights under 'state_dict'. If they have")
        assert refusal(path).endswith(f'python tools/model_converters/extract_weights.py {path} -o weights.pth')


class TestLatest:
    def run(self, folder, *names) -> None:
        for name in names:
            torch.save(content(), folder / name)
        (folder / 'last_checkpoint').write_text(str(folder / names[-1]))

    def test_of_a_work_dir_that_was_moved(self, tmp_path):
        (tmp_path / 'old').mkdir()
        self.run(tmp_path / 'old', 'epoch_1.pth', 'epoch_2.pth')
        (tmp_path / 'old').rename(tmp_path / 'new')
        assert latest_checkpoint(tmp_path / 'new') == str(tmp_path / 'new' / 'epoch_2.pth')

    def test_of_a_work_dir_that_was_copied(self, tmp_path):
        """The original trains on, the copy does not follow it."""
        (tmp_path / 'old').mkdir()
        self.run(tmp_path / 'old', 'epoch_1.pth', 'epoch_2.pth')
        shutil.copytree(tmp_path / 'old', tmp_path / 'new')
        assert latest_checkpoint(tmp_path / 'new') == str(tmp_path / 'new' / 'epoch_2.pth')

    def test_of_a_checkpoint_hook_with_another_folder(self, tmp_path):
        for name in ('work', 'elsewhere'):
            (tmp_path / name).mkdir()
        self.run(tmp_path / 'elsewhere', 'epoch_1.pth')
        shutil.copy(tmp_path / 'elsewhere' / 'last_checkpoint', tmp_path / 'work')
        assert latest_checkpoint(tmp_path / 'work') == str(tmp_path / 'elsewhere' / 'epoch_1.pth')
