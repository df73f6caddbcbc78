"""A pretended accelerator: its tensors compute on the CPU, and may not be mixed with tensors of the CPU.

As on a GPU, an operation of tensors on two devices is an error, a new tensor is on the CPU unless its device is named,
and NumPy does not read the tensors. torch registers such a device once in a process and for good, so tests run in a
separate process, which calls ``pretend``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import BuiltinFunctionType
from typing import Any

import torch
from mmcv import _ext
from mmengine.structures import instance_data
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = 'pretended'
INDEXING = ('aten::index', 'aten::_unsafe_index', 'aten::index_put', 'aten::index_put_', 'aten::_index_put_impl_')
JOINING = ('aten::cat', 'aten::stack')  # the others accept a number, that is, a tensor of the CPU without dimensions
BETWEEN_DEVICES = ('aten::_to_copy', 'aten::copy_')


def pretend() -> None:
    """Add the device to this process, for operations of torch and of mmcv and for MMEngine's data."""
    _setup_privateuseone_for_python_backend(NAME)
    for name, function in vars(_ext).items():
        if isinstance(function, BuiltinFunctionType):
            setattr(_ext, name, _of_mmcv(name, function))
    instance_data.IndexType = instance_data.IndexType | PretendedTensor
    instance_data.BoolTypeTensor = instance_data.BoolTypeTensor | _Booleans
    torch._C._set_only_lift_cpu_tensors(True)  # of torch.tensor(..., device=NAME), which then copies
    _Operations().__enter__()


class PretendedTensor(Tensor):
    """A tensor on the device; ``held`` has its values."""

    @staticmethod
    def __new__(cls, held: Tensor) -> PretendedTensor:
        options = dict(strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype)
        return Tensor._make_wrapper_subclass(cls, held.size(), **options, device=torch.device(NAME, 0))

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f'{type(self).__name__}({self.held})'

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _HasBooleans(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, PretendedTensor) and value.dtype == torch.bool


class _Booleans(metaclass=_HasBooleans):
    """The tensors of truth values on the device, as ``torch.cuda.BoolTensor``."""


class _Operations(TorchDispatchMode):
    """Also those without an argument on the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple, kwargs: dict) -> Any:
    """An operation of torch: on the named device, or else where an argument is."""
    name, device = func._schema.name, kwargs.get('device')
    has_arguments = on_device = _any_on_device(args, kwargs)
    if name == 'aten::copy_':
        on_device = isinstance(args[0], PretendedTensor)
    elif device is not None:
        on_device = torch.device(device).type == NAME
    if not has_arguments and not on_device:
        return func(*args, **kwargs)
    if name not in BETWEEN_DEVICES:
        indexed = name in INDEXING and isinstance(args[0], PretendedTensor)  # indices may be on the CPU
        _check_one_device(name, (args[0], *args[2:]) if indexed else (args, kwargs))
    of_cpu, options = tree_map_only(PretendedTensor, lambda tensor: tensor.held, (args, kwargs))
    found = func(*of_cpu, **(options if device is None else dict(options, device=torch.device('cpu'))))
    found = tree_map_only(Tensor, PretendedTensor, found) if on_device else found
    return return_and_correct_aliasing(func, args, kwargs, found)


def _of_mmcv(name: str, function: Callable) -> Callable:
    """An operation of mmcv, which changes the shapes of some tensors in place."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not _any_on_device(args, kwargs):
            return function(*args, **kwargs)
        _check_one_device(f'mmcv::{name}', (args, kwargs))
        of_cpu, options = tree_map_only(PretendedTensor, lambda tensor: tensor.held.detach(), (args, kwargs))
        return tree_map_only(Tensor, PretendedTensor, function(*of_cpu, **options))

    return run


def _any_on_device(*arguments: object) -> bool:
    return any(isinstance(value, PretendedTensor) for value in tree_leaves(arguments))


def _check_one_device(name: str, arguments: object) -> None:
    for value in tree_leaves(arguments):
        is_of_cpu = isinstance(value, Tensor) and not isinstance(value, PretendedTensor)
        if is_of_cpu and (value.dim() > 0 or name in JOINING):
            raise RuntimeError(f'{name} has tensors on {NAME} and on the CPU, which is of shape {tuple(value.shape)}')
        if isinstance(value, Generator):
            raise RuntimeError(f'{name} runs on {NAME} with a generator of the CPU')
