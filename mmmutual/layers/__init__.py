"""Slimmable layers, channel rounding and width state."""

from .attention import SlimAttention
from .batch_norm import SlimBatchNorm2d
from .channels import active_channels
from .conv import SlimConv2d
from .conv_transpose import SlimConvTranspose2d
from .conv_ws import SlimConvWS2d
from .decoder_depth import (
    check_decoder_layers,
    decoder_layers,
    get_decoder_layers,
    set_decoder_layers,
    use_decoder_layers,
)
from .divided import DividedLayer
from .frozen import frozen
from .group_norm import SlimGroupNorm
from .layer_norm import SlimLayerNorm
from .linear import SlimLinear
from .parameters import SlimParameters, slim_parameters_, unslim_parameters_
from .position_encoding import SlimSinePositionalEncoding
from .segments import Segment
from .statistics import PooledStatistics
from .stock_norms import StockNorm
from .swap import can_slim, channel_sides, counterpart_of, slim_layer_, to_stock_, unslim_layer_
from .switchable_batch_norm import SwitchableBatchNorm2d
from .sync_batch_norm import SlimSyncBatchNorm2d
from .width import Slimmable, check_ratio, check_ratios, get_width, set_width, slimmable_layers, use_width
from .width_grid import evaluated_widths, width_grid

__all__ = [
    'DividedLayer',
    'PooledStatistics',
    'Segment',
    'SlimAttention',
    'SlimBatchNorm2d',
    'SlimConv2d',
    'SlimConvTranspose2d',
    'SlimConvWS2d',
    'SlimGroupNorm',
    'SlimLayerNorm',
    'SlimLinear',
    'SlimParameters',
    'SlimSinePositionalEncoding',
    'SlimSyncBatchNorm2d',
    'Slimmable',
    'StockNorm',
    'SwitchableBatchNorm2d',
    'active_channels',
    'can_slim',
    'channel_sides',
    'check_decoder_layers',
    'check_ratio',
    'check_ratios',
    'counterpart_of',
    'decoder_layers',
    'evaluated_widths',
    'frozen',
    'get_decoder_layers',
    'get_width',
    'set_decoder_layers',
    'set_width',
    'slim_layer_',
    'slim_parameters_',
    'slimmable_layers',
    'to_stock_',
    'unslim_layer_',
    'unslim_parameters_',
    'use_decoder_layers',
    'use_width',
    'width_grid',
]
