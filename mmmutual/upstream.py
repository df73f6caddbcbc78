"""Private names of upstream packages that this project uses, each with the reason."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmdet.datasets import CocoDataset, Objects365V1Dataset, Objects365V2Dataset
from mmdet.evaluation.metrics import coco_metric, ov_coco_metric
from mmengine.evaluator import BaseMetric
from mmengine.optim import OptimWrapper
from mmengine.runner.loops import _parse_losses, _update_losses
from torch import nn

# MMEngine's evaluation loops split the losses off a model's predictions by these two, and offer no public way to do so.
update_losses, parse_losses = _update_losses, _parse_losses

# Of the unpickler in C only the look-up of classes can be replaced, not what it does to what it has found.
PythonUnpickler = pickle._Unpickler


def is_torchscript(path: str | Path) -> bool:
    """Whether ``torch.load`` takes a file for a program, and runs it.

    The reader is torch's: another one could list other files of a zip that was made to deceive.

    Args:
        path: A local file.

    Returns:
        Whether it is one.
    """
    with open(path, 'rb') as file:
        if file.read(4) != b'PK\x03\x04':
            return False
    return 'constants.pkl' in torch._C.PyTorchFileReader(str(path)).get_all_records()


def drop_hooks(model: nn.Module) -> None:
    """Remove all forward hooks of a copied model, in place.

    A copy has the hooks of the original, and torch keeps no handles that could remove them.

    Args:
        model: A copy that nobody else uses.
    """
    for module in model.modules():
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()


def in_backward() -> bool:
    """Whether a backward runs in this thread: torch tells no public name for it. Its number is -1 outside of one."""
    return torch._C._current_graph_task_id() != -1


@contextmanager
def counted_once(wrapper: OptimWrapper, passes: int) -> Iterator[None]:
    """Let an optimizer wrapper accumulate the passes of an iteration and count them as one.

    MMEngine sets the number of counts of a step in the constructor only. All counts are in passes inside the block, and
    in iterations as MMEngine set them afterwards, also after an error or an interrupt.

    Args:
        wrapper: The optimizer wrapper.
        passes: How often its ``update_params`` is called in the block.

    Yields:
        Nothing.
    """
    names = ('_accumulative_counts', '_inner_count', '_max_counts', '_remainder_counts')
    former = {name: getattr(wrapper, name) for name in names}
    vars(wrapper).update({name: count * passes for name, count in former.items()})
    # A resume in the middle of an epoch repeats iterations, so that more than the maximum run. MMEngine needs it for an
    # accumulation over iterations only, whose last step may have fewer of them.
    if former['_accumulative_counts'] == 1 or former['_max_counts'] == -1:
        wrapper._max_counts = -1
    try:
        yield
        former['_inner_count'] += 1
    finally:
        vars(wrapper).update(former)


def coco_ground_truth(metric: BaseMetric) -> object | None:
    """The ground truth that a COCO metric has read; mmdet offers no public way to it.

    Args:
        metric: Any metric.

    Returns:
        An object of the COCO API; None for other metrics, and before the first evaluation of some.
    """
    return getattr(metric, '_coco_api', None)


def set_coco_reader(reader: type) -> None:
    """Let mmdet's data sets and metrics of COCO files, and their subclasses, read with a class.

    The attribute ``COCOAPI`` of data sets is public and meant to be replaced, but for one class at a time. Metrics have
    no such attribute: they use the name ``COCO`` of their module.

    Args:
        reader: A subclass of ``mmdet.datasets.api_wrappers.COCO``.
    """
    for dataset in (CocoDataset, Objects365V1Dataset, Objects365V2Dataset):
        dataset.COCOAPI = reader
    for module in (coco_metric, ov_coco_metric):
        module.COCO = reader


def module_state(module: nn.Module) -> list[tuple[dict, dict]]:
    """The dictionaries that a module consists of, each with a copy: to restore what a run sets.

    Args:
        module: Any module.

    Returns:
        Pairs of a dictionary and its copy; none for a scripted module, which keeps them elsewhere.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return []
    own = [vars(module), *(vars(module)[name] for name in ('_parameters', '_buffers', '_modules'))]
    return [(part, dict(part)) for part in own]
