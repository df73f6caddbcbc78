"""Read a checkpoint, and check that it is undamaged, safe to load and of the right architecture."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import find_latest_checkpoint
from torch import Tensor, nn

MAX_NAMED = 3
EXTRACT = 'tools/model_converters/extract_weights.py'


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint onto the CPU without executing any code in it.

    Args:
        path: A local file, written by MMEngine or ``torch.save``.

    Returns:
        Its content, with the weights under ``'state_dict'``; the prefix ``module.``, which a distributed model adds to
        their names, is removed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, contains more than data, or has no weights.
    """
    content = read_data(path)
    if isinstance(content, Mapping) and isinstance(content.get('state_dict'), Mapping):
        return {**content, 'state_dict': _bare(content['state_dict'])}
    if isinstance(content, Mapping) and content and all(isinstance(value, Tensor) for value in content.values()):
        return {'state_dict': _bare(content)}
    raise ValueError(
        f"the checkpoint {path} has no weights under 'state_dict'. If they have another name in it, write them to a "
        f'file: python {EXTRACT} {path} -o weights.pth'
    )


def read_data(path: str | Path) -> Any:
    """Read the data in a checkpoint file onto the CPU without executing any code in it.

    Args:
        path: A local file.

    Returns:
        Its content.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or contains more than data.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no checkpoint file {path} on this machine')
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # the type of error depends on the damaged byte
        text = _reason(error)
        cure = 'Use another checkpoint, or resume from the previous one'
        if 'GLOBAL' in text:  # the file is undamaged, but has objects of other programs, for example their options
            cure += f'. To extract its weights without running code in it: python {EXTRACT} {path} -o weights.pth'
        raise ValueError(
            f'the checkpoint {path} cannot be read: it is cut short, damaged or has objects other than weights and '
            f'numbers ({text}). {cure}'
        ) from error


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """The newest undamaged checkpoint of a work dir.

    Args:
        work_dir: Folder of a training.

    Returns:
        The file that ``last_checkpoint`` names; in a copied or moved work dir, the file of the same name in it. If that
        file is missing or damaged, the newest other checkpoint. None if the training stopped before it wrote one.

    Raises:
        FileNotFoundError: If the file that ``last_checkpoint`` names is missing, and there is no other checkpoint.
        ValueError: If it is damaged, and there is no other checkpoint.
    """
    named = find_latest_checkpoint(str(work_dir))  # empty if the process was killed while writing it
    others = [path for path in Path(work_dir).glob('*.pth') if re.fullmatch(r'(epoch|iter)_\d+', path.stem)]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    candidates = [Path(work_dir) / Path(named).name, named] if named else []  # it has the path during training
    candidates = [path for path in candidates if Path(path).is_file()] or candidates[-1:]
    refused = None
    for path in dict.fromkeys(map(str, [*candidates, *others])):
        try:
            read_checkpoint(path)
        except (FileNotFoundError, ValueError) as error:
            print(f'left out: {error}', file=sys.stderr)
            refused = refused or error
        else:
            return path
    if named and refused:
        raise refused
    return None


def _bare(state: Mapping) -> dict:
    return {name.removeprefix('module.'): value for name, value in state.items()}


def _reason(error: Exception) -> str:
    """The first sentence of the error, without PyTorch's advice to load the file unsafely."""
    cause = error.__context__ or error
    return f'{type(cause).__name__}: {cause}'.splitlines()[0].split('. ')[0].rstrip(': ')


def check_architecture(model: nn.Module, checkpoint: Mapping, path: str | Path) -> None:
    """Check that a checkpoint has all of a model's weights, in their shapes.

    Args:
        model: The model.
        checkpoint: As ``read_checkpoint`` returns it.
        path: Path of the checkpoint, for the message.

    Raises:
        ValueError: If parameters are missing or have other shapes.
    """
    state = checkpoint['state_dict']
    expected = dict(model.named_parameters())
    missing = [name for name in expected if name not in state]
    other = [
        f'{name} {tuple(state[name].shape)} instead of {tuple(parameter.shape)}'
        for name, parameter in expected.items()
        if name in state and state[name].shape != parameter.shape
    ]
    if missing or other:
        examples = ', '.join((missing + other)[:MAX_NAMED])
        raise ValueError(
            f'the checkpoint {path} has another architecture than the config: of {len(expected)} parameters '
            f'{len(missing)} are missing and {len(other)} have another shape, for example {examples}. Pass the '
            'config that the checkpoint was trained with; a training writes it next to the checkpoint'
        )
