"""Checkpoints have their names when they are whole, and former ones go when their successors are there."""

import os

import pytest
from mmengine.fileio import get_file_backend

from mmmutual.checkpoint import read_checkpoint
from mmmutual.engine import AtomicCheckpointHook
from mmmutual.engine.hooks.atomic_checkpoint_hook import AtomicBackend
from tests.support.tiny import build_runner, tiny_config, without_validation


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def runner_for(data, work_dir, **options):
    config = without_validation(tiny_config(data, work_dir))
    config.train_cfg.max_epochs = 3
    config.train_dataloader.dataset.indices = 2  # one iteration an epoch
    config.default_hooks.checkpoint.update(type='AtomicCheckpointHook', **options)
    return build_runner(config)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.glob('*.pth'))


def fail_at(monkeypatch, file: str, function: str) -> None:
    """Raise ``Killed`` where a function of ``os`` is called with a file."""
    original = getattr(os, function)

    def failing(path, *args, **kwargs):
        if os.path.basename(path) == file:
            raise Killed
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, function, failing)


@pytest.mark.integration
def test_a_kill_before_the_renaming_leaves_the_former_checkpoint(tiny_data, tmp_path, monkeypatch):
    runner = runner_for(tiny_data, tmp_path, max_keep_ckpts=1)
    fail_at(monkeypatch, '.epoch_2_part.pth', 'replace')
    with pytest.raises(Killed):
        runner.train()
    assert names(tmp_path) == ['epoch_1.pth']
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    assert read_checkpoint(tmp_path / 'epoch_1.pth')['meta']['epoch'] == 1


@pytest.mark.integration
@pytest.mark.parametrize(('keep', 'left'), [(1, [3]), (2, [2, 3]), (-1, [1, 2, 3])])
def test_as_many_checkpoints_are_kept_as_were_asked_for(keep, left, tiny_data, tmp_path):
    runner_for(tiny_data, tmp_path, max_keep_ckpts=keep).train()
    assert names(tmp_path) == [f'epoch_{epoch}.pth' for epoch in left]


@pytest.mark.integration
def test_the_best_checkpoint_goes_after_the_better_one_is_there(tiny_data, tmp_path):
    runner = runner_for(tiny_data, tmp_path, save_best=['a', 'b'], rule='greater')
    hook = next(hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook))
    hook.before_train(runner)
    runner.train_loop  # builds what a checkpoint holds  # noqa: B018
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    seen = []

    def look_before_put(self, obj, filepath, put=AtomicBackend.put):
        seen.append((names(tmp_path), os.path.basename(filepath)))
        put(self, obj, filepath)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AtomicBackend, 'put', look_before_put)
        hook.after_val_epoch(runner, dict(a=0.1, b=0.5))
        runner.train_loop._epoch = 1
        hook.after_val_epoch(runner, dict(a=0.2, b=0.4))
    assert seen[-1] == (['best_a_epoch_0.pth', 'best_b_epoch_0.pth'], 'best_a_epoch_1.pth')
    assert names(tmp_path) == ['best_a_epoch_1.pth', 'best_b_epoch_0.pth']


@pytest.mark.integration
def test_what_is_written_anew_is_not_deleted(tiny_data, tmp_path):
    """After a resume, the best checkpoint may get its former name again."""
    runner = runner_for(tiny_data, tmp_path, save_best='a', rule='greater')
    hook = next(hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook))
    hook.before_train(runner)
    runner.train_loop  # noqa: B018
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    for score in (0.1, 0.2):
        hook.after_val_epoch(runner, dict(a=score))
    assert names(tmp_path) == ['best_a_epoch_0.pth']


@pytest.mark.integration
@pytest.mark.parametrize('save_best', ['a', ['a', 'b']], ids=str)
def test_a_copy_of_a_work_dir_leaves_the_original_alone(save_best, tiny_data, tmp_path):
    """The resumed run stores its former best checkpoint with the original's path."""
    for name in ('old', 'new'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'best_a_epoch_0.pth').touch()
    runner = runner_for(tiny_data, tmp_path / 'new', save_best=save_best, rule='greater')
    former = 'best_ckpt' if save_best == 'a' else 'best_ckpt_a'
    runner.message_hub.update_info(former, str(tmp_path / 'old' / 'best_a_epoch_0.pth'))
    hook = next(hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook))
    hook.before_train(runner)
    runner.train_loop  # noqa: B018
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.train_loop._epoch = 1
    hook.after_val_epoch(runner, dict(a=0.2, b=0.4))
    assert names(tmp_path / 'old') == ['best_a_epoch_0.pth']
    assert 'best_a_epoch_1.pth' in names(tmp_path / 'new') and 'best_a_epoch_0.pth' not in names(tmp_path / 'new')


def test_the_backend_replaces_files_and_makes_folders(tmp_path):
    backend = get_file_backend(backend_args=dict(backend='atomic'))
    path = tmp_path / 'new' / 'file.pth'
    for content in (b'one', memoryview(b'another')):
        backend.put(content, path)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path / 'new') == ['file.pth']


def test_a_failing_write_leaves_the_former_file_and_no_part(tmp_path):
    backend = get_file_backend(backend_args=dict(backend='atomic'))
    backend.put(b'former', tmp_path / 'file.pth')
    with pytest.raises(TypeError):
        backend.put('no bytes', tmp_path / 'file.pth')
    assert (tmp_path / 'file.pth').read_bytes() == b'former'
    assert os.listdir(tmp_path) == ['file.pth']


def test_the_configs_use_it(root):
    from mmengine.config import Config

    for name in ('mutual_mask_rcnn_r50', 'mutual_mask_rcnn_r18_shapes'):
        hook = Config.fromfile(root / 'configs' / f'{name}.py').default_hooks.checkpoint
        assert hook.type == 'AtomicCheckpointHook' and hook.interval == 1


@pytest.mark.parametrize('name', ['backend_args', 'file_client_args'])
@pytest.mark.parametrize('value', [None, dict(backend='local'), dict(backend='disk')])
def test_local_backends_are_written_atomically(name, value, tiny_data, tmp_path):
    hook = AtomicCheckpointHook(**{name: value})
    assert hook.backend_args == dict(backend='atomic') and hook.file_client_args is None


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (
            dict(backend_args=dict(backend='petrel')),
            r"only writes local files, but got backend_args=\{'backend': 'petrel'\}",
        ),
        (dict(file_client_args=dict(backend='http')), "but got file_client_args=.*or MMEngine's CheckpointHook"),
        (dict(out_dir='s3://bucket/runs'), "but got out_dir='s3://bucket/runs'"),
    ],
)
def test_other_places_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        AtomicCheckpointHook(**options)
