"""Detectors to export, with weights and statistics as after a training, and a Python without mmmutual."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import save_checkpoint
from torch import nn

from mmmutual.layers import SlimBatchNorm2d
from tests.support.tiny import tiny_config, tiny_retinanet

META = dict(classes=('a', 'b', 'c', 'd'), palette=[(1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12)])
TRANSFORMERS = {
    'swin': dict(type='SlimmableSwin', embed_dims=48, depths=(1, 1, 1, 1), num_heads=(3, 6, 12, 24)),
    'pvt': dict(type='SlimmablePVT', embed_dims=16, num_layers=[1] * 4, num_heads=[2, 4, 8, 16], pretrain_img_size=64),
}
WITHOUT_MMMUTUAL = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'mmmutual':
            raise ImportError('mmmutual is not installed here')

sys.meta_path.insert(0, Blocker())
try:
    import mmmutual
except ImportError:
    pass
else:
    raise SystemExit('mmmutual can be imported')
"""


def detector_config(kind: str, data: Path, work_dir: Path) -> Config:
    """Mask R-CNN, Faster R-CNN or RetinaNet on the tiny data, every box kept; 'detector' ones with that scope.

    The names of ``TRANSFORMERS`` are RetinaNets with these backbones.
    """
    if kind in TRANSFORMERS:
        config = detector_config('retinanet', data, work_dir)
        backbone = TRANSFORMERS[kind]
        config.model.backbone = dict(backbone, widths=(1.0, 2 / 3, 0.5), drop_path_rate=0.0)
        first = 48 if kind == 'swin' else 32
        config.model.neck.in_channels = [first, 2 * first, 4 * first, 8 * first]
        return config
    if kind.startswith('detector_'):
        config = detector_config(kind.removeprefix('detector_'), data, work_dir)
        model = config.model
        model.update(type='SlimmableDetector', detector=model.type, widths=model.backbone.widths, scope='detector')
        model.neck.update(slim_out=True, norm_cfg=dict(type='GN', num_groups=6))
        return config
    if kind == 'retinanet':
        config = tiny_retinanet(data, work_dir)
        config.model.test_cfg.update(score_thr=0.0, max_per_img=5)
        return config
    config = tiny_config(data, work_dir)
    if kind == 'faster':
        config.model.type = 'FasterRCNN'
        for part in ('mask_head', 'mask_roi_extractor'):
            config.model.roi_head.pop(part)
        config.test_evaluator.metric = 'bbox'
    return config


def trained(config: Config, checkpoint: Path) -> nn.Module:
    """The detector in evaluation mode with separate statistics at every width, saved as by a training."""
    torch.manual_seed(1)
    model = MODELS.build(config.model).eval()
    for layer in model.modules():
        if isinstance(layer, SlimBatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
            for width in layer.widths:
                size = layer.num_features
                layer.set_statistics(width, torch.randn(size) * 0.1, torch.rand(size) + 0.5)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    optimizer = dict(state=torch.zeros(1000))
    save_checkpoint(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=META, epoch=3), optimizer=optimizer), str(checkpoint)
    )
    return model


def run_without_mmmutual(script: str, *arguments, cwd: Path) -> str:
    """Run Python code where mmmutual cannot be imported."""
    command = [sys.executable, '-I', '-c', WITHOUT_MMMUTUAL + script, *map(str, arguments)]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    return result.stdout
