"""Compare the classes that a checkpoint was trained with and those of a config."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.logging import print_log

from mmmutual.datasets.dataset_config import dataset_uses
from mmmutual.datasets.outlines import short


def warn_of_other_classes(
    config: Mapping,
    checkpoint: Mapping,
    path: str | Path,
    consequence: str = "a detection counts as the config's class of its label",
) -> None:
    """Warn if the classes of a checkpoint and of a config's test data differ, or have another order.

    Weights of equal shapes load without an error, so that nothing else would reveal the difference.

    Args:
        config: An MMDetection config.
        checkpoint: As ``read_checkpoint`` returns it. One without names of classes is taken as it is.
        path: Path of the checkpoint, for the message.
        consequence: Ending of the message.
    """
    if difference := _difference(config, checkpoint, path, 'test'):
        print_log(f'{difference}: {consequence}', logger='current', level=logging.WARNING)


def check_classes(config: Mapping, checkpoint: Mapping, path: str | Path) -> None:
    """Check that a checkpoint was trained with the classes of a config's training data, in their order.

    Args:
        config: An MMDetection config.
        checkpoint: As ``read_checkpoint`` returns it. One without names of classes is taken as it is.
        path: Path of the checkpoint, for the message.

    Raises:
        ValueError: If they differ.
    """
    if difference := _difference(config, checkpoint, path, 'train'):
        raise ValueError(
            f'{difference}. Pass the config and the data of the checkpoint; docs/transfer.md trains other classes'
        )


def _difference(config: Mapping, checkpoint: Mapping, path: str | Path, split: str) -> str:
    """The difference between the classes of a checkpoint and those of a config's data; empty if there is none."""
    trained = checkpoint_classes(checkpoint)
    given = next((use.classes for use in dataset_uses(config, split) if use.classes), None)
    if trained is None or given is None or trained == given:
        return ''
    places = [label for label, names in enumerate(zip(trained, given)) if names[0] != names[1]]
    example = f' (label {places[0]} is {trained[places[0]]!r} and {given[places[0]]!r})' if places else ''
    return (
        f'the checkpoint {path} was trained with the classes {short(list(trained))}, but the {split} data set of the '
        f'config has {short(list(given))}{example}'
    )


def checkpoint_classes(checkpoint: Mapping) -> tuple[str, ...] | None:
    """Class names in the meta data of a checkpoint of MMDetection 3 or 2.

    Args:
        checkpoint: As ``read_checkpoint`` returns it.

    Returns:
        Their names, None if there are none.
    """
    meta = checkpoint.get('meta') or {}
    data = {str(key).lower(): value for key, value in (meta.get('dataset_meta') or meta).items()}
    classes = data.get('classes')
    if not isinstance(classes, Sequence) or isinstance(classes, str) or not classes:
        return None
    return tuple(map(str, classes))
