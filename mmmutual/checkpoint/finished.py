"""Whether the training that wrote a checkpoint is finished."""

from __future__ import annotations

from collections.abc import Mapping


def finished_length(train_cfg: Mapping, checkpoint: Mapping) -> str | None:
    """The length of a finished training.

    Args:
        train_cfg: The config of the training loop.
        checkpoint: As ``read_checkpoint`` returns it.

    Returns:
        For example ``'epoch 12 of 12'``; None if something is left to train.
    """
    for name in ('epoch', 'iter'):
        most, done = train_cfg.get(f'max_{name}s'), checkpoint['meta'].get(name, 0)
        if most is not None and done >= most:
            return f'{name} {done} of {most}'
    return None
