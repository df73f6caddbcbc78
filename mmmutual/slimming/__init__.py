"""The slimming plan of a model: which channels slim, in which layers, and together with which others."""

from .input_channels import input_channels
from .make_slimmable import make_slimmable_, undo_slimmable_
from .plan import ChannelGroup, LayerPlan, SlimmingPlan
from .planning import plan_neck, plan_slimming
from .rules import BlockRule, block_rule
from .scope import SCOPES, check_scope
from .slim_share import format_share

__all__ = [
    'SCOPES',
    'BlockRule',
    'ChannelGroup',
    'LayerPlan',
    'SlimmingPlan',
    'block_rule',
    'check_scope',
    'format_share',
    'input_channels',
    'make_slimmable_',
    'plan_neck',
    'plan_slimming',
    'undo_slimmable_',
]
