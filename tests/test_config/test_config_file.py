"""All tools read configs in one way: by name, in text or pure Python, with settings that take effect."""

import logging
import sys

import pytest
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config

from mmmutual.config import config_name, load_config, make_mutual, override, require, write_mutual

RETINANET = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'

PURE = """
from mmengine.config import read_base
from mmdet.datasets import CocoDataset
from mmdet.models import FPN, DetDataPreprocessor, ResNet, RetinaHead, RetinaNet
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner import TestLoop, ValLoop
from torch.optim import SGD

with read_base():
    from .schedule import *

model = dict(
    type=RetinaNet,
    data_preprocessor=dict(type=DetDataPreprocessor),
    backbone=dict(type=ResNet, depth=18, frozen_stages=1),
    neck=dict(type=FPN, in_channels=[64, 128, 256, 512], out_channels=64, num_outs=5),
    bbox_head=dict(type=RetinaHead, num_classes=3, in_channels=64, feat_channels=64, anchor_generator=dict(
        type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[8, 16, 32, 64, 128])),
)
train_dataloader = dict(dataset=dict(type=CocoDataset))
val_cfg = dict(type=ValLoop)
test_cfg = dict(type=TestLoop)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=lr))
default_hooks = dict(checkpoint=dict(type=CheckpointHook))
default_scope = None
"""


@pytest.fixture
def pure(tmp_path):
    (tmp_path / 'schedule.py').write_text('lr = 0.25\n')
    (tmp_path / 'pure.py').write_text(PURE)
    return tmp_path / 'pure.py'


@pytest.fixture
def file(tmp_path):
    """A config whose variables are used in its settings."""
    (tmp_path / 'own.py').write_text(
        "widths = (1.0, 0.5)\nroot = 'data/mine/'\nlr = 0.1\nmasks = True\nsteps = [dict(type='Resize', scale=9)]\n"
        'model = dict(backbone=dict(widths=widths))\ncustom_hooks = [dict(widths=widths)]\n'
        "train_dataloader = dict(dataset=dict(ann_file=root + 'a.json', pipeline=steps))\n"
        'optim_wrapper = dict(optimizer=dict(lr=lr))\n'
    )
    return tmp_path / 'own.py'


class TestNames:
    def test_of_a_package(self):
        config = load_config(RETINANET)
        assert config.model.backbone.depth == 18
        assert config_name(config.filename) == config_name(RETINANET) == 'retinanet_r18_fpn_1x_coco'

    def test_of_a_file(self, file):
        assert load_config(file).root == load_config(str(file)).root == 'data/mine/'

    @pytest.mark.parametrize('name', ['nowhere.py', 'mmdet::nowhere/nothing.py', 'nothing::yolox/yolox_s.py', ''])
    def test_of_nothing(self, name):
        with pytest.raises(FileNotFoundError, match=r'there is no config .*mmdet::yolox/'):
            load_config(name)

    def test_that_is_nearly_right(self):
        with pytest.raises(FileNotFoundError, match=rf'there is no config .* Did you mean {RETINANET}\?'):
            load_config('mmdet::retinanet/retinanet_r18_fpn_1x.py')

    @pytest.mark.parametrize(
        ('content', 'message'),
        [
            ('model = dict(:', r'not valid Python \(invalid syntax, line 1: model = dict\(:\)'),
            ("_base_ = './nowhere.py'", r'there is no file .*nowhere\.py\. Correct _base_'),
            ("_base_ = 'mmdet::nowhere.py'", 'a name with :: in its _base_ is not the name of a config'),
            ('from mmengine.config import read_base\nwith read_base():\n    from .nowhere import *', 'nowhere'),
        ],
    )
    def test_that_cannot_be_read(self, content, message, tmp_path):
        (tmp_path / 'own.py').write_text(content)
        with pytest.raises((FileNotFoundError, ValueError), match=rf'the config .*own\.py cannot be read: .*{message}'):
            load_config(tmp_path / 'own.py')

    @pytest.mark.parametrize(
        ('content', 'reason'),
        [
            ("raise ImportError('needy_module needs more')", 'needy_module needs more'),
            ('import no_such_module', "No module named 'no_such_module'"),
        ],
    )
    def test_with_an_import_that_fails(self, content, reason, tmp_path, monkeypatch):
        (tmp_path / 'needy_module.py').write_text(content)
        (tmp_path / 'own.py').write_text("custom_imports = dict(imports=['needy_module'], allow_failed_imports=False)")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ImportError, match=f'own.py cannot be read, since an import in it fails: {reason}$'):
            load_config(tmp_path / 'own.py')

    @pytest.mark.usefixtures('without_mmpretrain')
    def test_without_mmpretrain(self):
        with pytest.raises(
            ImportError,
            match=r'^the config .*convnext-t.*\.py needs mmpretrain, which .*`make pretrain` installs[^\n]*$',
        ):
            load_config('mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py')

    def test_of_a_part(self, tmp_path):
        require(load_config(RETINANET), 'model', 'train_dataloader')
        (tmp_path / 'part.py').write_text('train_cfg = dict(max_epochs=1)\ntest_cfg = None\n')
        with pytest.raises(
            ValueError, match=r'part.py does not set model, test_cfg. Choose a complete config, .*mmdet::'
        ):
            require(load_config(tmp_path / 'part.py'), 'train_cfg', 'model', 'test_cfg')

    def test_of_something_else(self, tmp_path):
        (tmp_path / 'weights.pth').touch()
        with pytest.raises(ValueError, match=r'weights.pth is not a config: its name has to end in .py'):
            load_config(tmp_path / 'weights.pth')

    def test_modules_of_the_current_folder(self, tmp_path, monkeypatch):
        (tmp_path / 'module_of_mine.py').write_text('')
        (tmp_path / 'config.py').write_text("custom_imports = dict(imports=['module_of_mine'])")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'path', [path for path in sys.path if path not in ('', str(tmp_path))])
        load_config('config.py')
        assert 'module_of_mine' in sys.modules


class TestPurePython:
    def test_classes_get_their_names(self, pure):
        config = load_config(pure)
        assert config.model.backbone.type == 'ResNet' and config.val_cfg.type == 'ValLoop'
        assert config.train_dataloader.dataset.type == 'CocoDataset' and 'CocoDataset' in DATASETS.module_dict
        assert (config.optim_wrapper.optimizer.type, config.optim_wrapper.optimizer.lr) == ('SGD', 0.25)
        assert config.default_scope == 'mmdet' and 'ResNet' not in config
        assert type(MODELS.build(config.model)).__name__ == 'RetinaNet'

    def test_it_is_made_mutual_and_written(self, pure, tmp_path):
        stock = load_config(pure)
        mutual = make_mutual(stock, (1.0, 0.5), (1.0,))
        assert (mutual.model.type, mutual.model.detector) == ('SlimmableDetector', 'RetinaNet')
        assert (mutual.val_cfg.type, mutual.default_hooks.checkpoint.type) == ('SubnetValLoop', 'AtomicCheckpointHook')
        write_mutual(str(pure), stock, mutual, tmp_path / 'out' / 'mutual.py')
        assert load_config(tmp_path / 'out' / 'mutual.py').to_dict() == mutual.to_dict()

    def test_a_class_that_is_registered_nowhere(self, tmp_path):
        (tmp_path / 'config.py').write_text('from torch.nn import Identity\nmodel = dict(type=Identity)\n')
        assert load_config(tmp_path / 'config.py').model.type == 'torch.nn.modules.linear.Identity'


class TestOverride:
    def test_settings(self, file):
        assert load_config(file, {'model.backbone.widths': (1.0,)}).model.backbone.widths == (1.0,)
        assert load_config(file, {'load_from': 'a.pth'}).load_from == 'a.pth'

    @pytest.mark.parametrize(
        ('options', 'places'),
        [
            ({'widths': (1.0, 0.25)}, r'model\.backbone\.widths, custom_hooks\.0\.widths'),
            ({'root': 'data/other/'}, r'train_dataloader\.dataset\.ann_file'),
            ({'lr': 0.2}, r'optim_wrapper\.optimizer\.lr'),
            ({'steps.0.scale': 5}, r'train_dataloader\.dataset\.pipeline'),
        ],
        ids=str,
    )
    def test_a_variable_that_was_read_already(self, options, places, file):
        with pytest.raises(ValueError, match=rf'--cfg-options {next(iter(options))}=.* has no effect: .*{places}'):
            load_config(file, options)

    def test_a_variable_with_all_that_it_set(self, file):
        options = {'lr': 0.2, 'optim_wrapper.optimizer.lr': 0.2}
        assert load_config(file, options).optim_wrapper.optimizer.lr == 0.2

    @pytest.mark.parametrize(
        ('option', 'text'),
        [
            ('masks', 'settings that the file computed from masks'),
            ('load_form', 'Did you mean load_from'),
            ('mine', 'your own code'),
        ],
    )
    def test_what_may_have_no_effect_is_a_warning(self, option, text, file, caplog, monkeypatch):
        said = []
        monkeypatch.setattr('mmmutual.config.overrides.print_log', lambda *args, **kwargs: said.append((args, kwargs)))
        load_config(file, {option: False})
        assert text in said[0][0][0] and said[0][1]['level'] == logging.WARNING

    @pytest.mark.parametrize('option', ['custom_hooks.7.widths', 'root.deep'])
    def test_what_is_not_there(self, option, file):
        with pytest.raises(ValueError, match=f'--cfg-options {option} does not match the config: '):
            override(Config.fromfile(file), {option: 1})
