"""The device of the checks, how they run, and how they compare with the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from mmcv.ops import nms
from mmengine.config import Config
from torch import Tensor, nn

from mmmutual.deploy.outputs import DenseOutputs, tensor_difference
from mmmutual.layers import use_width

from .batches import training_batch
from .networks import slimmable
from .options import CONFIGS, Options
from .rounding import full_precision

PASSED = 'passed'
WIDTHS = (1.0, 0.75, 0.5, 0.25)
TOLERANCE = 1e-3  # relative to the largest value of a tensor: a GPU adds up in another order
EVERY = 10**6  # a sampler of so many boxes keeps all, and draws none at random


class Fault(Exception):
    """A finding of a check, in one sentence."""


@dataclass(frozen=True)
class Setting:
    """The device and the amount of computation of the checks.

    Attributes:
        device: ``'cuda'``, or ``'cpu'`` to rehearse.
        image_size: Height and width of the images in pixels.
        iterations: Training iterations.
    """

    device: str
    image_size: int = 128
    iterations: int = 3

    def on_cpu(self) -> Setting:
        """The reference."""
        return replace(self, device='cpu')

    def options(self) -> Options:
        """Those of the parts of the benchmark, with the detector of the shapes example."""
        path, size = CONFIGS / 'mutual_mask_rcnn_r18_shapes.py', (self.image_size, self.image_size)
        return Options(path, self.device, size, WIDTHS, rounds=1, batch_size=2, threads=torch.get_num_threads())

    def config(self) -> Config:
        """That of the detector; its samplers keep all boxes, so that the CPU and a GPU train on the same."""
        config = self.options().config()
        for part in ('rpn', 'rcnn'):
            config.model.train_cfg[part].sampler.num = EVERY
        return config

    def detector(self) -> nn.Module:
        """The slimmable Mask R-CNN with random weights, in evaluation mode."""
        check_operators(self)
        return slimmable(self.config(), self.device)

    def batch(self) -> dict:
        """A batch to train on, the same on each device."""
        return training_batch(self.options(), self.config())

    def image(self) -> Tensor:
        """A preprocessed image (1, 3, H, W), the same on each device."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(1, 3, self.image_size, self.image_size, generator=generator).to(self.device)


Check = Callable[[Setting], None]


def run_checks(
    setting: Setting, checks: Mapping[str, Check], report: Callable[[str, str], object] = lambda name, result: None
) -> dict[str, str]:
    """Run each check, whatever the others find.

    Args:
        setting: The device.
        checks: Functions by name, each of which raises an error if it finds a fault.
        report: Called with each name and result.

    Returns:
        ``'passed'`` or the reason in one sentence, by name.
    """
    results = {}
    for name, check in checks.items():
        try:
            with full_precision():
                check(setting)
            results[name] = PASSED
        except Exception as error:
            results[name] = reason_of(error)
        report(name, results[name])
    return results


def reason_of(error: Exception) -> str:
    """The first line of an error, with its kind if it is not a ``Fault``."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), 'without a message')
    return line if isinstance(error, Fault) else f'{type(error).__name__}: {line}'


def check_operators(setting: Setting) -> None:
    """The operators of mmcv are compiled for the device."""
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 7], [20, 20, 30, 30]], device=setting.device)
    try:
        kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=setting.device), 0.5)[1].tolist()
    except (RuntimeError, AssertionError) as error:
        raise Fault(
            f'mmcv has no operators for {setting.device} ({reason_of(error)}): compile it again with the CUDA toolkit '
            'of your torch, FORCE_CUDA=1 MMCV_WITH_OPS=1 pip install --force-reinstall --no-deps --no-cache-dir '
            '--no-build-isolation onedl-mmcv'
        ) from error
    if kept != [0, 2]:
        raise Fault(f'the NMS of mmcv keeps the boxes {kept}, but should keep [0, 2]')


@torch.no_grad()
def dense_outputs(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Features and maps of the RPN at every width, on the CPU."""
    found = {}
    for width in WIDTHS:
        with use_width(model, width):
            outputs = DenseOutputs(model).named(image)
        found.update({f'{name} at width {width:g}': value.cpu() for name, value in outputs.items()})
    return found


def require_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise ``Fault`` at the first tensor that differs from its reference."""
    for name, reference in expected.items():
        difference = tensor_difference({name: found[name]}, {name: reference})
        if not difference <= TOLERANCE:
            raise Fault(f'{name} differs from its reference by {difference:.1e}, which should be at most {TOLERANCE}')
