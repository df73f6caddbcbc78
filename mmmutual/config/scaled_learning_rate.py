"""Scale the learning rate with the batch size, as ``--auto-scale-lr``."""

from __future__ import annotations

from mmengine.config import Config


def use_scaled_learning_rate(config: Config) -> None:
    """Let MMEngine scale the learning rate with the batch size of all processes, in place.

    Args:
        config: A config for training.

    Raises:
        ValueError: If the config does not have the batch size that its learning rate belongs to.
    """
    if 'base_batch_size' not in (config.get('auto_scale_lr') or {}):
        raise ValueError('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config')
    config.auto_scale_lr.enable = True
