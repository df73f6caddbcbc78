"""Training hooks."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .calibration_hook import BNCalibrationHook
from .channel_order_hook import ChannelOrderHook
from .iteration_seed_hook import IterationSeedHook
from .mutual_learning_hook import MutualLearningHook

__all__ = ['AtomicCheckpointHook', 'BNCalibrationHook', 'ChannelOrderHook', 'IterationSeedHook', 'MutualLearningHook']
