"""Export backbone, neck and dense head of a stock detector as ONNX, and check the result in onnxruntime."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from mmmutual.checkpoint.atomic_write import write_whole
from mmmutual.config import nominal_size
from mmmutual.slimming import input_channels
from mmmutual.slimming.dry_run import ERRORS, first_line
from mmmutual.upstream import converts_channels, normalizes

from .outputs import DenseOutputs, Size, tensor_difference

TOLERANCE = 1e-4


def input_size(config: Config) -> Size:
    """The size of test images at the input of the network.

    Args:
        config: Config of a detector.

    Returns:
        Height and width in pixels: the size of the test pipeline's ``Resize``, padded as by the data preprocessor.

    Raises:
        ValueError: If the test pipeline has no ``Resize`` of a fixed size.
    """
    size = nominal_size(config.test_dataloader)
    if size is None:
        raise ValueError('the test pipeline has no Resize with a scale: pass --input-size HEIGHT WIDTH')
    divisor = config.model.get('data_preprocessor', {}).get('pad_size_divisor', 1)
    height, width = (-(-side // divisor) * divisor for side in size)
    return height, width


def export_onnx(detector: nn.Module, path: str | Path, size: Size, origin: Mapping | None = None) -> float:
    """Write ``DenseOutputs`` of a detector as ONNX.

    The input ``image`` has the fixed shape (1, C, H, W), with the channels of the detector's images, normalised as by
    its data preprocessor. The mean, standard deviation and channel order are in the file's metadata.

    Args:
        detector: A stock detector, on the CPU.
        path: The file to write.
        size: Height and width of the input in pixels.
        origin: Further entries of the metadata.

    Returns:
        The largest difference between onnxruntime and PyTorch on a random image, relative to the largest value of an
        output if that is above 1.

    Raises:
        ImportError: If onnx, onnxscript or onnxruntime is missing.
        ValueError: If ``size`` is not two positive whole numbers, if a head needs more than feature maps (for example a
            transformer's), or if the difference is above 1e-4. Then nothing is written.
    """
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f'the input size must be height and width in pixels, such as 608 1024, but got {size!r}')
    check_onnx()
    import onnx
    import onnxruntime

    model = DenseOutputs(detector).eval()
    image = torch.randn(1, input_channels(detector), *size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            expected = model.named(image)
    except ERRORS as error:
        raise ValueError(
            f'{type(detector).__name__} has a head that needs more than feature maps ({first_line(error)}), so its '
            'dense part cannot be exported as ONNX. Export with --format mmdet'
        ) from error
    program = _trace(model, image, list(expected))
    onnx.helper.set_model_props(program, {**_preprocessing(detector), **{k: str(v) for k, v in (origin or {}).items()}})
    session = onnxruntime.InferenceSession(program.SerializeToString(), providers=['CPUExecutionProvider'])
    computed = session.run(list(expected), {'image': image.numpy()})
    difference = tensor_difference(dict(zip(expected, map(torch.from_numpy, computed))), expected)
    if difference > TOLERANCE:
        raise ValueError(
            f'the outputs of onnxruntime and PyTorch differ by {difference:.1e}, more than {TOLERANCE}. Nothing was '
            'written'
        )
    write_whole(Path(path), lambda partial: onnx.save(program, str(partial)))
    return difference


def check_onnx() -> None:
    """Raise ``ImportError`` with the command to install them if packages of the export are missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'the ONNX export needs onnx, onnxscript and onnxruntime ({error}): pip install -r requirements/deploy.txt'
        ) from error


def _trace(model: nn.Module, image: torch.Tensor, names: list[str]) -> Any:
    """Export the ONNX model without the exporter's progress messages."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            program = torch.onnx.export(
                model, (image,), dynamo=True, input_names=['image'], output_names=names, verbose=False
            )
            return program.model_proto
    finally:
        logger.setLevel(level)


def _preprocessing(detector: nn.Module) -> dict[str, str]:
    """The preprocessing of an image, for the metadata."""
    preprocessor = detector.data_preprocessor
    info = {'channels': 'RGB' if converts_channels(preprocessor) else 'as the image is loaded'}
    if normalizes(preprocessor):
        info.update({name: str(getattr(preprocessor, name).flatten().tolist()) for name in ('mean', 'std')})
    return info
