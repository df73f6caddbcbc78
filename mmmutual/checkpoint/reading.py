"""Checkpoints are checked before they are used: whole, safe to load, and of this architecture."""

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
    """Read a checkpoint onto the CPU without executing anything in it.

    Args:
        path: A local file as MMEngine or ``torch.save`` writes it.

    Returns:
        Its content, with the weights under ``'state_dict'``; the ``module.`` that a distributed model puts before their
        names is taken off.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, holds more than data, or has no weights.
    """
    content = read_data(path)
    if isinstance(content, Mapping) and isinstance(content.get('state_dict'), Mapping):
        return {**content, 'state_dict': _bare(content['state_dict'])}
    if isinstance(content, Mapping) and content and all(isinstance(value, Tensor) for value in content.values()):
        return {'state_dict': _bare(content)}
    raise ValueError(
        f"the checkpoint {path} holds no weights: it has no 'state_dict'. If they have another name in it, write "
        f'them to a file: python {EXTRACT} {path} -o weights.pth'
    )


def read_data(path: str | Path) -> Any:
    """Read whatever data a checkpoint file holds onto the CPU, without executing anything in it.

    Args:
        path: A local file.

    Returns:
        Its content.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or holds more than data.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no checkpoint file {path} on this machine')
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # what a damaged file raises depends on the byte
        text = _reason(error)
        cure = 'Use another one, or resume from the one before'
        if 'GLOBAL' in text:  # the file is whole, but has objects of other programs in it, as their options
            cure += f'. Its weights alone, without running anything in it: python {EXTRACT} {path} -o weights.pth'
        raise ValueError(
            f'the checkpoint {path} cannot be read: it is cut short, damaged or holds objects other than weights and '
            f'numbers ({text}). {cure}'
        ) from error


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """The newest whole checkpoint of a work dir.

    Args:
        work_dir: Where a training wrote.

    Returns:
        The file that ``last_checkpoint`` names, in a work dir that was copied or moved the one of that name in it; if
        that is lost or damaged, the newest other one; None if the training was stopped before there was one.

    Raises:
        FileNotFoundError: If the file that ``last_checkpoint`` names is lost, and there is no other.
        ValueError: If it is damaged, and there is no other.
    """
    named = find_latest_checkpoint(str(work_dir))  # empty after a kill while it was written
    others = [path for path in Path(work_dir).glob('*.pth') if re.fullmatch(r'(epoch|iter)_\d+', path.stem)]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    candidates = [Path(work_dir) / Path(named).name, named] if named else []  # it names the place of the training
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
    """The first sentence of what was wrong, without PyTorch's advice to load the file unsafely."""
    cause = error.__context__ or error
    return f'{type(cause).__name__}: {cause}'.splitlines()[0].split('. ')[0].rstrip(': ')


def check_architecture(model: nn.Module, checkpoint: Mapping, path: str | Path) -> None:
    """Check that a checkpoint has all of a model's weights, in their shapes.

    Args:
        model: The model that is to load it.
        checkpoint: As ``read_checkpoint`` returns it.
        path: For the message.

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
            f'the checkpoint {path} is of another architecture than the config: of {len(expected)} parameters '
            f'{len(missing)} are missing and {len(other)} have another shape, for example {examples}'
        )
