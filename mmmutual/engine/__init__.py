"""Training and evaluation of sub-networks: hooks, loops, sampling, rescaling, calibration, logs."""

from mmmutual.moved_names import moved

from .calibration import calibrate
from .distillation import Distillation, PearsonDistillation, RoIDistillation, SoftLabelDistillation
from .epoch_length import epoch_length
from .hooks import AtomicCheckpointHook, BNCalibrationHook, ChannelOrderHook, IterationSeedHook, MutualLearningHook
from .launch import build_runner, clear_errors, join_processes, prepare
from .log_processor import SubnetLogProcessor
from .loops import SubnetTestLoop, SubnetValLoop
from .processes import is_first_process
from .rescale import rescale_batch
from .sampling import SandwichSampler, Subnet
from .start_check import check_model

__getattr__ = moved(__name__, {'mmmutual.config': 'nominal_size scale_pipeline'})

__all__ = [
    'AtomicCheckpointHook',
    'BNCalibrationHook',
    'ChannelOrderHook',
    'Distillation',
    'IterationSeedHook',
    'MutualLearningHook',
    'PearsonDistillation',
    'RoIDistillation',
    'SandwichSampler',
    'SoftLabelDistillation',
    'Subnet',
    'SubnetLogProcessor',
    'SubnetTestLoop',
    'SubnetValLoop',
    'build_runner',
    'calibrate',
    'check_model',
    'clear_errors',
    'epoch_length',
    'is_first_process',
    'join_processes',
    'prepare',
    'rescale_batch',
]
