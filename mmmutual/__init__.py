"""mmmutual: MutualNet for MMDetection.

Importing it registers the slimmable layers, backbones and necks (``SlimmableResNet``, ``SlimmableFPN`` and those of
docs/backbones.md), ``SlimmableDetector``, ``MutualLearningHook``, ``ChannelOrderHook``, ``BNCalibrationHook``,
``IterationSeedHook``, ``AtomicCheckpointHook``, ``SubnetValLoop``, ``SubnetTestLoop``, ``SubnetLogProcessor`` and the
distillations.
"""

from .environment import check_stack, register_safe_globals

check_stack()
register_safe_globals()

from .engine import calibrate  # noqa: E402
from .evaluation import count_multiply_adds  # noqa: E402  (the stack is checked first)
from .layers import (  # noqa: E402
    decoder_layers,
    frozen,
    get_decoder_layers,
    get_width,
    set_decoder_layers,
    set_width,
    use_decoder_layers,
    use_width,
    width_grid,
)
from .models import SlimmableFPN, SlimmableResNet  # noqa: E402
from .slimming import SlimmingPlan, make_slimmable_, order_channels_, plan_slimming, undo_slimmable_  # noqa: E402

__version__ = '0.1.0'

__all__ = [
    'SlimmableFPN',
    'SlimmableResNet',
    'SlimmingPlan',
    '__version__',
    'calibrate',
    'count_multiply_adds',
    'decoder_layers',
    'frozen',
    'get_decoder_layers',
    'get_width',
    'make_slimmable_',
    'order_channels_',
    'plan_slimming',
    'set_decoder_layers',
    'set_width',
    'undo_slimmable_',
    'use_decoder_layers',
    'use_width',
    'width_grid',
]
