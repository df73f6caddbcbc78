"""Export a sub-network as a narrow mmdet detector, and as ONNX."""

from .export import Exported, export_subnet
from .narrow import narrow_
from .narrow_detector import build_narrow_detector
from .onnx_export import export_onnx, input_size
from .outputs import DenseOutputs, largest_difference

__all__ = [
    'DenseOutputs',
    'Exported',
    'build_narrow_detector',
    'export_onnx',
    'export_subnet',
    'input_size',
    'largest_difference',
    'narrow_',
]
