"""From a sub-network to a stock mmdet detector, and to ONNX."""

from .export import Exported, export_subnet
from .onnx_export import export_onnx, input_size
from .outputs import DenseOutputs, largest_difference
from .stock_config import stock_config
from .weights import narrow_state_dict

__all__ = [
    'DenseOutputs',
    'Exported',
    'export_onnx',
    'export_subnet',
    'input_size',
    'largest_difference',
    'narrow_state_dict',
    'stock_config',
]
