"""Add to errors the pass in which they occurred: width, scale and image size."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mmengine.logging import print_log
from torch import Tensor

from .pass_losses import NonfiniteLossError
from .sampling import Subnet


@contextmanager
def named_errors(stage: str, subnet: Subnet, data: object) -> Iterator[None]:
    """Add to errors in a block the pass in which they occurred.

    Args:
        stage: The stage of the pass, such as an iteration.
        subnet: Its sub-network.
        data: Its batch; ``inputs`` in it, if any, are described as they are when the error occurs.

    Yields:
        Nothing.
    """
    try:
        yield
    except NonfiniteLossError:
        raise  # it names its pass, an earlier one maybe
    except Exception as error:  # any error: its own message does not contain width and scale
        inputs = data.get('inputs') if isinstance(data, Mapping) else None
        note_pass(error, f'{stage}, {describe_pass(subnet, inputs)}')
        raise


def note_pass(error: Exception, where: str) -> None:
    """Add to an error the pass in which it occurred; log it too, since Python 3.10 does not show notes.

    Args:
        error: Any error.
        where: The pass.
    """
    if where in getattr(error, '__notes__', ()):
        return
    if hasattr(error, 'add_note'):
        error.add_note(where)
    print_log(f'{where}: {type(error).__name__}', logger='current', level=logging.ERROR)


def describe_pass(subnet: Subnet, inputs: object = None) -> str:
    """Describe a pass.

    Args:
        subnet: Its sub-network.
        inputs: (N, C, H, W) images, a list of (C, H, W), or anything else.

    Returns:
        For example ``'width 0.5 at scale 0.8, 2 images of 205 x 256 pixels (height x width)'``.
    """
    images = list(inputs) if isinstance(inputs, (Tensor, list, tuple)) else []
    sizes = [tuple(image.shape[-2:]) for image in images if isinstance(image, Tensor) and image.dim() == 3]
    shown = ', '.join(f'{height} x {width}' for height, width in dict.fromkeys(sizes))
    number = '1 image' if len(sizes) == 1 else f'{len(sizes)} images'
    pixels = f', {number} of {shown} pixels (height x width)' if sizes else ''
    return f'{subnet.description}{pixels}'
