"""A model with the weights of a checkpoint, both checked."""

from __future__ import annotations

from pathlib import Path

from mmdet.models import BaseDetector
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from .checkpoint import check_architecture, read_checkpoint


def load_model(config: Config, checkpoint: str | Path, needs_detector: str = '') -> tuple[nn.Module, dict]:
    """Build a config's model on the CPU and load a checkpoint into it.

    Args:
        config: Config of a detector or a classifier; its ``default_scope`` becomes the active one.
        checkpoint: File of the checkpoint.
        needs_detector: What is only possible with a detector, as the subject of a message, if it has to be one.

    Returns:
        The model, and the checkpoint's content.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or of another architecture, or if the model is no detector but has to be.
    """
    content = read_checkpoint(checkpoint)
    register_all_modules(init_default_scope=False)
    init_default_scope(config.get('default_scope') or 'mmdet')
    model = MODELS.build(config.model)
    if needs_detector and not isinstance(model, BaseDetector):
        raise ValueError(
            f'{needs_detector} needs a detector, but {config.filename} is the config of {type(model).__name__}'
        )
    check_architecture(model, content, checkpoint)
    model.load_state_dict(content['state_dict'], strict=False)
    return model, content
