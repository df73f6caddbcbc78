"""The slimming plan of a model: the channels that slim, their layers, and the channels that slim together.

| file | content |
|---|---|
| `make_slimmable.py` | plan a built model, and apply the plan in place |
| `plan_model.py` | `plan_slimming` and `plan_neck`: choose the layers of a scope, and run the planner |
| `planner.py` | `Planner`: the search, from the trace through the groups to the checks on narrow networks |
| `plan.py` | `SlimmingPlan`: the result, which is printed, applied and undone |
| `plan_parts.py` | its parts: channel groups, layers and parameters |
| `dry_run.py` | run a model on a small image; the model does not change |
| `trace.py` | follow channels through one such run at full width |
| `narrow_trace.py` | follow them through a simulated narrow network, which checks the groups |
| `channel_order.py` | order the channels of a trained model by importance |
| `channel_places.py` | find the places of the ordered channels in the tensors of all layers |
| `importance.py` | the registry of functions that score channels |
| `meta_run.py` | run a model on meta tensors, which have shapes only: for other rooms, not for the plan |
| `channel_ids.py` | number channels, and join those that slim together |
| `groups.py` | cut the joined channels into groups of consecutive channels |
| `operations.py`, `operation_names.py` | the effect of torch's operations on channels |
| `roles.py` | the kinds of layers, by their effect on channels |
| `rules.py`, `rules_mmpretrain.py` | the registry of block rules |
| `blocks.py`, `dino_decoder.py` | slimmable counterparts of blocks that count channels |
| `counting.py` | let these blocks count the channels of a simulated narrow network |
| `block_swap.py` | give a block the class of its counterpart, and its former class again |
| `costs.py`, `attention_costs.py` | multiply-adds of each layer |
| `scope.py` | the scopes, and the layers that belong to them |
| `input_channels.py` | the channels of a model's images |
| `slim_share.py` | the slimmable share of the compute, as a line of text |
"""

from .channel_order import ChannelOrder, check_order, is_ordered, order_channels_
from .importance import IMPORTANCES, Importance, importance_function, read_weights
from .input_channels import input_channels
from .make_slimmable import make_slimmable_, undo_slimmable_
from .plan import SlimmingPlan
from .plan_model import plan_neck, plan_slimming
from .plan_parts import ChannelGroup, LayerPlan
from .rules import BlockRule, block_rule
from .scope import SCOPES, check_scope
from .slim_share import format_share

__all__ = [
    'IMPORTANCES',
    'SCOPES',
    'BlockRule',
    'ChannelGroup',
    'ChannelOrder',
    'Importance',
    'LayerPlan',
    'SlimmingPlan',
    'block_rule',
    'check_order',
    'check_scope',
    'format_share',
    'importance_function',
    'input_channels',
    'is_ordered',
    'make_slimmable_',
    'order_channels_',
    'plan_neck',
    'plan_slimming',
    'read_weights',
    'undo_slimmable_',
]
