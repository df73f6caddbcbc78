"""The tools end with one sentence where the user's input is wrong."""

import subprocess
import sys

import torch
from torch import nn


def run_tool(root, folder, name: str, *arguments) -> str:
    """Output of a tool on stderr when it refuses its input: no traceback, and no new files."""
    before = sorted(folder.rglob('*'))
    command = [sys.executable, str(root / 'tools' / name), *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert result.returncode == 1, result.stderr
    assert 'Traceback' not in result.stderr
    assert sorted(folder.rglob('*')) == before
    return result.stderr[result.stderr.index('error: ') :]


class TestTools:
    def test_training_without_data_says_how_to_get_it(self, root, tmp_path):
        message = run_tool(root, tmp_path, 'train.py', root / 'configs' / 'mutual_mask_rcnn_r50.py')
        assert message.startswith(
            'error: train_dataloader: there is no annotation file data/coco/annotations/instances_train2017.json.'
        )
        assert 'COCO 2017 belongs in data/coco: annotations/instances_{train,val}2017.json, train2017/*.jpg' in message
        assert 'python tools/misc/download_coco.py' in message
        assert 'python tools/train.py configs/mutual_mask_rcnn_r18_shapes.py' in message

    def test_evaluating_a_truncated_checkpoint(self, root, tmp_path):
        torch.save(nn.Linear(9, 9).state_dict(), tmp_path / 'cut.pth')
        (tmp_path / 'cut.pth').write_bytes((tmp_path / 'cut.pth').read_bytes()[:-50])
        message = run_tool(root, tmp_path, 'test.py', root / 'configs' / 'mutual_mask_rcnn_r50.py', 'cut.pth')
        assert message.startswith('error: the checkpoint cut.pth cannot be read: it is cut short, damaged or has')

    def test_evaluating_another_architecture(self, root, tmp_path, tiny_data):
        """Of the same model in another size, for one weight."""
        stem = nn.Conv2d(3, 64, 7, bias=False).state_dict(prefix='backbone.conv1.')
        torch.save(dict(state_dict=stem, meta={}), tmp_path / 'other.pth')
        message = run_tool(
            root, tmp_path, 'test.py', root / 'configs' / 'mutual_mask_rcnn_r18_shapes.py', 'other.pth',
            '--cfg-options', f'test_dataloader.dataset.data_root={tiny_data}/',
            f'test_evaluator.ann_file={tiny_data}/annotations/val.json', '--work-dir', f'{tiny_data}-work',
        )  # fmt: skip
        assert message.startswith('error: the checkpoint other.pth has another architecture than the config: of ')
        assert 'are missing and 1 have another shape, for example ' in message

    def test_config_that_is_not_there(self, root, tmp_path):
        message = run_tool(root, tmp_path, 'train.py', 'configs/none.py')
        assert message.startswith('error: ') and 'configs/none.py' in message

    def test_a_budget_is_checked_before_anything_is_evaluated(self, root, tmp_path):
        message = run_tool(root, tmp_path, 'analysis_tools/query_table.py', 'none.py', 'none.pth', '--budget-ms', 0)
        assert message.startswith('error: --budget-ms must be a number above 0, but got 0.0')
