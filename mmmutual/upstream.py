"""Private names of upstream packages that this project uses, each with the reason."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from mmdet.datasets import CocoDataset, Objects365V1Dataset, Objects365V2Dataset
from mmdet.evaluation.metrics import coco_metric, ov_coco_metric
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.optim import OptimWrapper
from mmengine.runner.loops import _parse_losses, _update_losses
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

# The base classes of torch's batch norms and of its convolutions: MMEngine's ``init_cfg`` finds layers by the name of a
# direct base, and ``isinstance`` has no public class that all batch norms have in common.
AnyBatchNorm, AnyConv = _BatchNorm, _ConvNd

# The computation of ``nn.SyncBatchNorm``, whose ``forward`` always passes the parameters of all channels.
sync_batch_norm = SyncBatchNorm.apply

# MMEngine's evaluation loops separate losses from a model's predictions with these, and there is no public function.
update_losses, parse_losses = _update_losses, _parse_losses

# The unpickler in C only allows replacing the look-up of classes, but not the use of the objects that it finds.
PythonUnpickler = pickle._Unpickler


# The count of the writes to a tensor, which the notes on autograd describe; it has no public name. Writes through
# ``.data`` do not count.
write_count = Tensor._version.__get__

# The functions that rebuild a tensor, as ``torch.save`` names them in a file: those that read nothing but tensors.
TENSOR_BUILDERS = frozenset(
    {
        ('torch._utils', '_rebuild_parameter'),
        ('torch._utils', '_rebuild_tensor'),
        ('torch._utils', '_rebuild_tensor_v2'),
        ('torch._utils', '_rebuild_tensor_v3'),
        ('torch.serialization', '_get_layout'),
    }
)

# The module of NumPy 1 and that of NumPy 2 whose functions rebuild an array, as a pickle names them.
ARRAY_MODULES = ('numpy.core.multiarray', 'numpy._core.multiarray')

# The methods of ``XMLDataset`` that read its files: a subclass that overrides one of them may read other files.
VOC_METHODS = ('load_data_list', 'parse_data_info', '_parse_instance_info', 'sub_data_root')


def is_torchscript(path: str | Path) -> bool:
    """Whether ``torch.load`` would load a file as a TorchScript program and run it.

    The zip reader is torch's: another reader could list other files of a manipulated zip.

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
        model: A copy that is not used elsewhere.
    """
    for module in model.modules():
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()


def in_backward() -> bool:
    """Whether a backward runs in this thread; torch has no public function for it. The id is -1 outside a backward."""
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
    # MMEngine needs the maximum for an accumulation over iterations only, whose last step may have fewer of them. A
    # resume in the middle of an epoch repeats iterations, so that more than the maximum run.
    if former['_accumulative_counts'] == 1 or former['_inner_count'] >= former['_max_counts']:
        wrapper._max_counts = -1
    try:
        yield
        former['_inner_count'] += 1
    finally:
        vars(wrapper).update(former)


def coco_ground_truth(metric: BaseMetric) -> object | None:
    """The ground truth that a COCO metric has read; mmdet has no public attribute for it.

    Args:
        metric: Any metric.

    Returns:
        An object of the COCO API; None for other metrics, and before the first evaluation of some.
    """
    return getattr(metric, '_coco_api', None)


def set_coco_reader(reader: type) -> None:
    """Set the reader class of mmdet's data sets and metrics for COCO files, and of their subclasses.

    The attribute ``COCOAPI`` of data sets is public and meant to be replaced, one class at a time. Metrics have
    no such attribute: they use the name ``COCO`` of their module.

    Args:
        reader: A subclass of ``mmdet.datasets.api_wrappers.COCO``.
    """
    for dataset in (CocoDataset, Objects365V1Dataset, Objects365V2Dataset):
        dataset.COCOAPI = reader
    for module in (coco_metric, ov_coco_metric):
        module.COCO = reader


def module_state(module: nn.Module) -> list[tuple[dict, dict]]:
    """The dictionaries that a module consists of, each with a copy, to restore the attributes that a run sets.

    Args:
        module: Any module.

    Returns:
        Pairs of a dictionary and its copy; empty for a scripted module, which stores its state elsewhere.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return []
    own = [vars(module), *(vars(module)[name] for name in ('_parameters', '_buffers', '_modules'))]
    return [(part, dict(part)) for part in own]


def check_dimensions(norm: _BatchNorm, x: Tensor) -> None:
    """Check the number of dimensions of an input; torch's batch norms do it in ``forward`` only.

    Args:
        norm: A batch norm.
        x: An input.

    Raises:
        ValueError: If the norm does not accept that many dimensions.
    """
    norm._check_input_dim(x)


def border_padding(conv: _ConvNd) -> list[int]:
    """The padding that a convolution applies, in the order of ``torch.nn.functional.pad``.

    Torch computes it in the constructor, also for ``padding='same'``, and offers no function that does.

    Args:
        conv: A convolution.

    Returns:
        Pixels before and after, of the last dimension first.
    """
    return conv._reversed_padding_repeated_twice


def output_padding(conv: nn.ConvTranspose2d, x: Tensor, output_size: list[int] | None) -> list[int]:
    """The padding with which a transposed convolution reaches a size; torch computes it in its ``forward`` only.

    Args:
        conv: The layer.
        x: (N, C, H, W) or (C, H, W).
        output_size: The last two dimensions of the output, or all of them; None is the layer's own padding.

    Returns:
        Pixels of the height and the width.

    Raises:
        ValueError: If the layer cannot reach the size.
    """
    return conv._output_padding(x, output_size, conv.stride, conv.padding, conv.kernel_size, 2, conv.dilation)


def operators_library() -> Path:
    """The compiled library of mmcv's operators, which is a private module."""
    return Path(str(import_module('mmcv._ext').__file__))


def imported_names(config: Config) -> Collection[str]:
    """The names that a config in pure Python imports: MMEngine stores them with the settings."""
    return getattr(config, '_imported_names', ())


def is_package_error(error: ValueError) -> bool:
    """Whether MMEngine raised an error because a name with ``::`` is not a config: only the error's text shows it."""
    return '_get_package_and_cfg_path' in str(error)


def converts_channels(preprocessor: nn.Module) -> bool:
    """Whether a data preprocessor swaps BGR and RGB; it stores its arguments under private names only."""
    return getattr(preprocessor, '_channel_conversion', False)


def normalizes(preprocessor: nn.Module) -> bool:
    """Whether a data preprocessor subtracts a mean; without one, the attribute ``mean`` does not exist."""
    return getattr(preprocessor, '_enable_normalize', False)


@dataclass(frozen=True)
class BoxHeadCall:
    """A call of the box head of a RoI head.

    Args:
        forward: The method that was called.
        arguments: By name; ``rois`` are (R, 5) image index, x1, y1, x2, y2 in pixels.
        results: By name; ``cls_score`` are (R, classes + 1) and ``bbox_pred`` (R, 4) or (R, 4 classes).
    """

    forward: Callable[..., dict]
    arguments: dict[str, Any]
    results: dict[str, Any]

    def again(self, rois: Tensor) -> BoxHeadCall:
        """Call the box head again on the same features.

        Args:
            rois: Other RoIs.

        Returns:
            The new call.
        """
        arguments = {**self.arguments, 'rois': rois}
        return BoxHeadCall(self.forward, arguments, self.forward(**arguments))


@contextmanager
def watched_box_head(roi_head: nn.Module) -> Iterator[list[BoxHeadCall]]:
    """Collect the calls of the box head of a RoI head.

    ``_bbox_forward`` is the one place where mmdet pools RoIs and predicts for them. Each type of RoI head has its own,
    for example with the stage of a cascade or with a semantic map as arguments. No public method returns its results.

    Args:
        roi_head: A RoI head of mmdet.

    Yields:
        A list that receives the calls.
    """
    calls: list[BoxHeadCall] = []
    forward = roi_head._bbox_forward

    def remembered(*args: Any, **kwargs: Any) -> dict:
        results = forward(*args, **kwargs)
        calls.append(BoxHeadCall(forward, inspect.signature(forward).bind(*args, **kwargs).arguments, results))
        return results

    roi_head._bbox_forward = remembered
    try:
        yield calls
    finally:
        del roi_head._bbox_forward
