"""Make an MMDetection config mutual, as a person would write it by hand."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmmutual.config_tree import nested_dicts, type_name
from mmmutual.layers import check_ratios
from mmmutual.moved_names import renamed_argument
from mmmutual.slimming import SlimmingPlan, check_scope, plan_slimming
from mmmutual.slimming.dry_run import first_line

from .required_packages import check_packages
from .scaled_pipeline import scale_pipeline

WIDTHS = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
SCALES = (1.0, 0.8, 0.6, 0.4)
MUTUAL_HOOK = 'MutualLearningHook'
CLIP = dict(max_norm=35, norm_type=2)
EVALUATED = 4  # widths of the grid
STOCK_LOOPS = {'val_cfg': ('ValLoop', 'SubnetValLoop'), 'test_cfg': ('TestLoop', 'SubnetTestLoop')}


@renamed_argument('slim', 'scope')
def make_mutual(
    config: Config,
    widths: Sequence[float] = WIDTHS,
    scales: Sequence[float] = SCALES,
    scope: str = 'backbone',
) -> Config:
    """Make a config mutual: wrap the detector in ``SlimmableDetector``, add hooks and loops, keep all other settings.

    Args:
        config: A config of a detector.
        widths: Width multipliers above 0 and at most 1 to train, in any order.
        scales: Input scales above 0 and at most 1, in any order.
        scope: The part that is slimmable: ``'backbone'``, as in the paper, or ``'detector'``: neck and heads too.

    Returns:
        A new config; the one given does not change.

    Raises:
        ImportError: If the detector needs a package that is not installed.
        TypeError: If ``widths`` or ``scales`` are not numbers.
        ValueError: If they are out of range, or if the detector cannot be made mutual, with the module's name.
    """
    return make_mutual_with_plan(config, widths, scales, scope)[0]


@renamed_argument('slim', 'scope')
def make_mutual_with_plan(
    config: Config,
    widths: Sequence[float] = WIDTHS,
    scales: Sequence[float] = SCALES,
    scope: str = 'backbone',
) -> tuple[Config, SlimmingPlan]:
    """As ``make_mutual``, with the plan of the slimmable layers of the detector.

    Args:
        config: A config of a detector.
        widths: Width multipliers above 0 and at most 1 to train, in any order.
        scales: Input scales above 0 and at most 1, in any order.
        scope: The part that is slimmable: ``'backbone'`` or ``'detector'``.

    Returns:
        A new config, and the plan of a detector that was built from it; the plan prints as a table.

    Raises:
        ImportError: As ``make_mutual``.
        TypeError: As ``make_mutual``.
        ValueError: As ``make_mutual``.
    """
    widths, scales = check_ratios(widths, 'widths'), check_ratios(scales, 'scales')
    if not isinstance(config.get('model'), Mapping):
        raise ValueError('the config has no model, so there is nothing to make mutual')
    hooks = list(config.get('custom_hooks') or [])
    if has_mutual_hook(config):
        raise ValueError(f'the config is already mutual: it has a {MUTUAL_HOOK}. Use it unchanged')
    mutual = copy.deepcopy(config)
    plan = _wrap_model(mutual, widths, check_scope(scope))
    seeds = [] if any(type_name(hook) == 'IterationSeedHook' for hook in hooks) else [dict(type='IterationSeedHook')]
    mutual.custom_hooks = [
        *hooks,
        *seeds,
        dict(type=MUTUAL_HOOK, scales=scales),
        dict(type='BNCalibrationHook', num_batches=100),
    ]
    _make_resumable(mutual)
    for name, (stock, subnets) in STOCK_LOOPS.items():
        if mutual.get(name) and mutual[name].get('type', stock) == stock:
            mutual[name].update(type=subnets, num_widths=EVALUATED)
    if mutual.get('test_cfg') and mutual.test_cfg.type == 'SubnetTestLoop' and _scalable(mutual, scales):
        mutual.test_cfg.scales = scales
    if mutual.get('optim_wrapper') and not mutual.optim_wrapper.get('clip_grad'):
        mutual.optim_wrapper.clip_grad = CLIP  # the gradient is the sum over the passes
    if type_name(mutual.get('log_processor') or {}) in ('', 'LogProcessor'):
        mutual.log_processor = {**(mutual.get('log_processor') or {}), 'type': 'SubnetLogProcessor'}
    imports = mutual.get('custom_imports') or dict(imports=[], allow_failed_imports=False)
    names = [imports['imports']] if isinstance(imports['imports'], str) else list(imports['imports'])
    mutual.custom_imports = {**imports, 'imports': [*names, *({'mmmutual'} - set(names))]}
    return mutual, plan


def has_mutual_hook(config: Mapping) -> bool:
    """Whether a config trains mutually.

    Args:
        config: A config.

    Returns:
        Whether its ``custom_hooks`` have a ``MutualLearningHook``.
    """
    return any(type_name(hook) == MUTUAL_HOOK for hook in config.get('custom_hooks') or [])


def _wrap_model(config: Config, widths: tuple[float, ...], scope: str) -> SlimmingPlan:
    """Let ``SlimmableDetector`` build the detector; return the plan of its slimmable layers."""
    model = config.model
    init_default_scope(config.get('default_scope') or 'mmdet')
    if not isinstance(model.get('backbone'), Mapping):
        raise ValueError(_without_backbone(model))
    check_packages(model)
    necks = model.neck if isinstance(model.get('neck'), list) else [model.get('neck') or {}]
    further = [neck.get('rfp_backbone') for neck in necks]  # of a recursive feature pyramid
    for part in (model.backbone, (model.get('roi_head') or {}).get('shared_head'), *further):
        if part:
            _thaw(part)
    for part in nested_dicts(model):
        if part.get('type') == 'MMSyncBN':
            part['type'] = 'SyncBN'  # torch's synchronised batch norm can be made slimmable, mmcv's cannot
    plan = _plan(_build(model), widths, scope)
    stock = dict(model)
    setting = dict(scope=scope) if scope == 'detector' else {}
    config.model = dict(type='SlimmableDetector', detector=stock.pop('type'), widths=widths, **setting, **stock)
    return plan


def _without_backbone(model: Mapping) -> str:
    """Why a model without a backbone at its top level, such as a tracker, cannot be made mutual."""
    kind = type_name(model)
    parts = [
        name for name, part in model.items() if isinstance(part, Mapping) and 'backbone' in part and type_name(part)
    ]
    if not parts:
        return f'{kind} has no backbone at its top level, so it cannot be made mutual: choose a config with a backbone'
    part = 'detector' if 'detector' in model else parts[0]
    detector = type_name(model[part])
    way_out = f'make a config of its {detector} alone mutual'
    if 'semi_train_cfg' not in model:  # a semi-supervised model would train the weights on, at width 1.0 alone
        way_out += (
            f", and load the trained weights into {kind}'s {part} with type='SlimmableDetector', detector='{detector}'"
        )
    return f'{kind} consists of several models ({", ".join(parts)}), so it cannot be made mutual: {way_out}'


def _build(model: Mapping) -> nn.Module:
    """Build a model from a copy of its config; any error becomes one sentence with the module's name."""
    try:
        return MODELS.build(copy.deepcopy(model))
    except ImportError:
        raise
    except Exception as error:
        reason = first_line(error).strip('\'"')
        raise ValueError(
            f'{type_name(model)} with the backbone {type_name(model["backbone"])} cannot be made mutual, since it '
            f'cannot be built here ({type(error).__name__}: {reason})'
        ) from error


def _plan(detector: nn.Module, widths: tuple[float, ...], scope: str) -> SlimmingPlan:
    """Plan the slimmable layers of a detector, and try it; any failure is one sentence with the module's name."""
    try:
        plan = plan_slimming(detector, scope)
        plan.apply_(widths)
        plan.undo_()
    except Exception as error:
        known = isinstance(error, ValueError)
        reason = first_line(error) if known else f'{type(error).__name__}: {first_line(error)}'
        backbone = type(detector.backbone).__name__
        raise ValueError(
            f'{type(detector).__name__} with the backbone {backbone} cannot be made mutual: {reason}'
        ) from error
    return plan


def _make_resumable(config: Config) -> None:
    """Write checkpoints that a killed run does not damage, and draw the same augmentations after a resume."""
    checkpoint = (config.get('default_hooks') or {}).get('checkpoint')
    remote = checkpoint and any(checkpoint.get(name) for name in ('backend_args', 'file_client_args'))
    if checkpoint and type_name(checkpoint) == 'CheckpointHook' and not remote:
        checkpoint.type = 'AtomicCheckpointHook'
    loader = config.get('train_dataloader')
    if loader and loader.get('persistent_workers'):
        loader.persistent_workers = False  # a resume cannot restore the random states of persistent workers


def _thaw(part: MutableMapping) -> None:
    """Train norms and stem: if frozen, their statistics and weights do not suit narrow networks."""
    kind = MODELS.get(part['type']) if isinstance(part['type'], str) else part['type']
    options = _options(kind) if kind else {}
    if 'norm_eval' in options:
        part['norm_eval'] = False
    norm = part.get('norm_cfg') or {}
    if norm.get('eps') == 0:  # NAS-FCOS: PyTorch does not train a batch norm without it
        norm['eps'] = nn.BatchNorm2d(1).eps
    if 'frozen_stages' in options and 'frozen_stages' in part:
        default = options['frozen_stages']
        part['frozen_stages'] = default if default in (-1, 0) else -1  # EfficientNet counts from 0


def _options(kind: type) -> dict[str, Any]:
    """The arguments that a class accepts, with their defaults, including those that it passes to its base class."""
    options: dict[str, Any] = {}
    for base in inspect.getmro(kind):
        if '__init__' not in vars(base):
            continue
        parameters = inspect.signature(vars(base)['__init__']).parameters.values()
        options = {**{parameter.name: parameter.default for parameter in parameters}, **options}
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return options


def _scalable(config: Config, scales: tuple[float, ...]) -> bool:
    """Whether the test pipeline can be scaled."""
    try:
        scale_pipeline(config.get('test_dataloader'), min(scales))
    except ValueError:
        return False
    return True
