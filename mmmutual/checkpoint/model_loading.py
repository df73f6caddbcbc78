"""Load a checkpoint into the model of a config, and check that they match."""

from __future__ import annotations

from pathlib import Path

from mmdet.models import BaseDetector
from mmengine.config import Config
from torch import nn

from mmmutual.config import build_model

from .reading import check_architecture, read_checkpoint
from .trained_config import check_mutual


def load_model(config: Config, checkpoint: str | Path, needs_detector: str = '') -> tuple[nn.Module, dict]:
    """Build a config's model on the CPU and load a checkpoint into it.

    Args:
        config: Config of a detector or a classifier; its ``default_scope`` becomes the active one.
        checkpoint: File of the checkpoint.
        needs_detector: The feature that needs a detector, as the subject of a message; empty if a classifier will do.

    Returns:
        The model, and the checkpoint's content.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: As ``build_model``.
        ValueError: If the file is damaged or of another architecture, if it is of a mutual training and the config is
            not, if the model has to be a detector and is not, or as ``build_model``.
    """
    content = read_checkpoint(checkpoint)
    model = build_model(config)
    if needs_detector and not isinstance(model, BaseDetector):
        raise ValueError(
            f'{needs_detector} needs a detector, but {config.filename} is the config of {type(model).__name__}'
        )
    check_mutual(model, content, checkpoint, config.filename)
    check_architecture(model, content, checkpoint)
    model.load_state_dict(content['state_dict'], strict=False)
    return model, content
