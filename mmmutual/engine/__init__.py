"""Training and evaluation of sub-networks: hooks, loops, sampling, rescaling, calibration, logs."""

from .calibration import calibrate
from .distillation import Distillation, PearsonDistillation, SoftLabelDistillation
from .hooks import AtomicCheckpointHook, BNCalibrationHook, IterationSeedHook, MutualLearningHook
from .log_processor import SubnetLogProcessor
from .loops import SubnetTestLoop, SubnetValLoop
from .pipeline_scale import nominal_size, scale_pipeline
from .rescale import rescale_batch
from .sampling import SandwichSampler, Subnet

__all__ = [
    'AtomicCheckpointHook',
    'BNCalibrationHook',
    'Distillation',
    'IterationSeedHook',
    'MutualLearningHook',
    'PearsonDistillation',
    'SandwichSampler',
    'SoftLabelDistillation',
    'Subnet',
    'SubnetLogProcessor',
    'SubnetTestLoop',
    'SubnetValLoop',
    'calibrate',
    'nominal_size',
    'rescale_batch',
    'scale_pipeline',
]
