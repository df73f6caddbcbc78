"""Whether a config of mmdet, shrunk in data and images, can be made mutual: the check behind a table in the docs."""

from __future__ import annotations

import copy
import multiprocessing
import traceback
from collections.abc import Mapping
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import mmdet
import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor, nn

from mmmutual.engine import MutualLearningHook
from mmmutual.engine.pipeline_scale import nested_dicts
from mmmutual.layers import use_width

from .config_file import load_config
from .mutual_config import make_mutual

CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'
RELATIVES = ('ResNet', 'ResNetV1d', 'ResNeXt', 'ResNeSt', 'Res2Net', 'RegNet', 'HRNet', 'DetectoRS_ResNet',
             'TridentResNet', 'Darknet', 'CSPDarknet', 'CSPNeXt')  # fmt: skip
TIMEOUT = 600  # seconds for one config
WIDTHS = (1.0, 0.5, 0.25)


@cache
def families() -> dict[str, str]:
    """For each folder of mmdet's configs the first with r50 in its name whose backbone is a relative of ResNet."""
    found = {}
    for folder in sorted(path for path in CONFIGS.iterdir() if path.is_dir() and path.name != '_base_'):
        names = sorted(folder.rglob('*.py'), key=lambda path: ('r50' not in path.name, path))
        for path in names:
            try:
                model = Config.fromfile(path).get('model') or {}
            except (ImportError, OSError, KeyError, AttributeError):
                continue  # it needs a package that is not there, or is no config of a detector
            model = model.get('detector', model)
            if str(model.get('backbone', {}).get('type')).split('.')[-1] in RELATIVES:
                found[folder.name] = f'mmdet::{path.relative_to(CONFIGS)}'
                break
    return found


def check_config(name: str, slim: str = 'backbone') -> None:
    """Make a config mutual and compare it with stock.

    Args:
        name: As ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``.
        slim: What slims: ``'backbone'`` or ``'detector'``.

    Raises:
        ValueError: If it cannot be made mutual, or for the first thing that is not as it should be.
    """
    MMLogger.get_instance('mmengine', log_level='ERROR')
    config = shrink(load_config(name))
    size, scales = image_size(config)
    mutual_config = make_mutual(config, WIDTHS, scales, slim)
    _thaw_alike(config.model, mutual_config.model)
    torch.manual_seed(0)
    stock, mutual = MODELS.build(config.model), MODELS.build(mutual_config.model)
    stock.init_weights()
    for key, value in stock.named_parameters():
        if key.endswith('fc_reg.weight'):
            value.data *= 0.01  # boxes on the image, as a trained detector's; mmdet pastes no masks elsewhere
    _begin_training()
    missing = mutual.load_state_dict(stock.state_dict(), strict=False)
    _require(not missing.missing_keys and not missing.unexpected_keys, f'checkpoint keys differ: {missing}')
    if hasattr(stock, 'teacher_model'):
        mutual.teacher_model = stock.teacher_model  # it is no part of the checkpoint
    loads = [node for node in nested_dicts(config.to_dict()) if str(node.get('type')).startswith('Load')]
    with_mask = any(node.get('with_mask', 'Panoptic' in node['type']) for node in loads)
    batch = demo_batch(stock, size, with_mask)
    try:
        predictions, losses = _predict(stock, batch), _losses(stock, batch)
    except Exception as error:
        raise ValueError(f'the stock detector itself fails: {type(error).__name__}: {error}') from error
    _compare(_predict(mutual, batch), predictions, 'predictions')
    _compare(_losses(mutual, batch), losses, 'losses')
    without = {key for key, value in stock.named_parameters() if value.requires_grad and value.grad is None}
    gradients = _mutual_iteration(mutual, batch, scales)
    lacking = [key for key, value in gradients.items() if value is None and key not in without]
    _require(not lacking, f'{len(lacking)} parameters get no gradient, the first is {lacking[:1]}')
    infinite = [key for key, value in gradients.items() if value is not None and not value.isfinite().all()]
    _require(not infinite, f'{len(infinite)} gradients are not finite, the first is {infinite[:1]}')
    for width in WIDTHS:
        with use_width(mutual, width):
            _predict(mutual, batch)


def shrink(config: Config) -> Config:
    """The config without downloads, and with fewer samples and proposals; the architecture stays."""
    for node in nested_dicts(config.model):
        for key in ('init_cfg', 'pretrained', 'teacher_ckpt'):
            if key in node:
                node[key] = None
        for key, most in (('nms_pre', 50), ('max_per_img', 20), ('num', 32)):
            if isinstance(node.get(key), int):
                node[key] = min(node[key], most)
        if 'score_thr' in node:
            node['score_thr'] = 0.0  # so that there are predictions to compare
        if node.get('type') == 'MMSyncBN':
            node['type'] = 'SyncBN'  # mmcv's needs a distributed run to be built at all
        if str(node.get('teacher_config')).startswith('configs/'):
            node['teacher_config'] = str(CONFIGS.parent / node['teacher_config'])
    model = config.model
    if 'num_proposals' in (model.get('rpn_head') or {}):
        model.test_cfg.rcnn.max_per_img = model.rpn_head.num_proposals  # they are the queries of the head
    model.get('data_preprocessor', {}).pop('batch_augments', None)
    return config


def image_size(config: Config) -> tuple[int, tuple[float, float]]:
    """Pixels of an image's side, and scales: a detector may pick many features, or need more than one on a level."""
    if config.model.get('as_two_stage'):
        return 256, (1.0, 0.875)
    if (config.model.get('bbox_head') or {}).get('type') == 'DDODHead':
        return 384, (1.0, 0.75)
    return 128, (1.0, 0.75)


def _begin_training() -> None:
    """What some heads ask MMEngine's message hub for."""
    hub = MessageHub.get_instance('config_check')
    for name in ('epoch', 'iter'):
        hub.update_info(name, 0)


def _thaw_alike(stock: Mapping, mutual: Mapping) -> None:
    """Train the norms and the stem in both detectors, so that their losses can be compared."""
    for name, part in stock.items():
        if isinstance(part, Mapping):
            _thaw_alike(part, mutual[name])
    for option in {'norm_eval', 'frozen_stages'} & set(mutual):
        stock[option] = mutual[option]


def demo_batch(model: nn.Module, size: int, with_mask: bool) -> dict:
    """Two square images with boxes, label maps and, if they are asked for, masks."""
    torch.manual_seed(0)
    np.random.seed(0)
    batch = demo_mm_inputs(2, [[3, size, size]] * 2, [3, 3], 4, with_semantic=True)
    roi_head = getattr(model, 'roi_head', None)
    stride = 8 if getattr(roi_head, 'with_semantic', False) else 1
    for sample in batch['data_samples']:
        sample.gt_instances.bboxes = Tensor([[8, 8, 72, 80], [40, 30, 110, 120], [20, 60, 70, 100]])
        sample.gt_instances.labels = torch.tensor([0, 0, 0])
        masks = np.zeros((3, size, size), dtype=np.uint8)
        for mask, (x, y, right, bottom) in zip(masks, sample.gt_instances.bboxes.int().tolist()):
            mask[y:bottom, x:right] = 1
        if with_mask:
            sample.gt_instances.masks = BitmapMasks(masks, size, size)
        sample.ignored_instances = sample.ignored_instances[:0]
        sample.gt_sem_seg = PixelData(sem_seg=(sample.gt_sem_seg.sem_seg[:, ::stride, ::stride] % 2).long())
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0), batch_input_shape=(size, size), pad_shape=(size, size)))
        if not hasattr(model, 'rpn_head') and roi_head is not None:
            boxes = sample.gt_instances.bboxes.repeat(4, 1) + torch.rand(12, 4)
            sample.proposals = InstanceData(bboxes=boxes, scores=torch.rand(12))
        if hasattr(model, 'language_model'):
            sample.set_metainfo(dict(text='cat. dog.', custom_entities=True))
    return batch


def _mutual_iteration(model: nn.Module, batch: dict, scales: tuple[float, ...]) -> dict[str, Tensor | None]:
    """One iteration with the hook as MMEngine's loop runs it; the gradients that the optimizer gets."""
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.SGD(parameters.values(), lr=1e-6)
    gradients: dict[str, Tensor | None] = {}

    def keep(*_) -> None:
        gradients.update({name: value.grad for name, value in parameters.items()})

    optimizer.register_step_pre_hook(keep)
    wrapper = OptimWrapper(optimizer)
    hub = MessageHub.get_current_instance()
    runner = SimpleNamespace(cfg={}, model=model, optim_wrapper=wrapper, seed=0, iter=0, max_iters=10, message_hub=hub)
    hook = MutualLearningHook(WIDTHS, scales, num_subnets=3)
    model.train()
    wrapper.zero_grad()
    hook.before_run(runner)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0, copy.deepcopy(batch))
    losses = model.train_step(copy.deepcopy(batch), optim_wrapper=wrapper)
    hook.after_train_iter(runner, 0, copy.deepcopy(batch))
    hook.after_train(runner)
    infinite = [name for name, value in losses.items() if not torch.as_tensor(value).isfinite().all()]
    _require(not infinite, f'the losses {infinite} are not finite')
    return gradients


def _losses(model: nn.Module, batch: dict) -> dict:
    model.train()
    torch.manual_seed(0)
    np.random.seed(0)
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    losses = model(**data, mode='loss')
    model.parse_losses(losses)[0].backward()
    return losses


@torch.no_grad()
def _predict(model: nn.Module, batch: dict) -> list:
    model.eval()
    torch.manual_seed(0)
    return model.test_step(copy.deepcopy(batch))


def _compare(ours, theirs, what: str) -> None:
    """Raise unless all tensors in two nested results are equal."""
    ours, theirs = list(_tensors(ours)), list(_tensors(theirs))
    same = len(ours) == len(theirs) > 0 and all(torch.equal(a, b) for a, b in zip(ours, theirs))
    _require(same, f'the {what} of width 1.0 are not those of the stock detector')


def _tensors(node):
    if isinstance(node, (Tensor, np.ndarray)):
        yield torch.nan_to_num(torch.as_tensor(node).detach().float(), nan=-1.0)
    elif isinstance(node, BaseDataElement):
        for _, value in sorted(node.items()):
            yield from _tensors(value)
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from _tensors(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _tensors(value)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def write_table(results: Mapping[str, Mapping], path: str | Path, slim: str = 'backbone') -> None:
    """Write the results as a page of the docs.

    Args:
        results: ``config`` and ``reason`` of each family, as the tool collects them.
        path: The Markdown file.
        slim: What slims: ``'backbone'`` or ``'detector'``.
    """
    rows = sorted(results.items())
    passed = [name for name, row in rows if not row['reason']]
    several = [name for name, row in rows if 'no backbone of its own' in row['reason']]
    whole = slim == 'detector'
    lines = [
        f"# Which of mmdet's detectors {'slim as a whole' if whole else 'can be made mutual'}",
        '',
        "One config of each folder in mmdet's `configs` whose backbone is a ResNet or a relative of it. Data and",
        'images are shrunk, the architecture is not. Each is made mutual as `tools/train.py --mutual'
        f'{" detector" * whole}` does.',
        '*Passes* means:',
        '',
        "- predictions and losses at width 1.0 equal the stock detector's bit for bit;",
        '- one mutual iteration gives finite losses, and a finite gradient for every parameter that gets one in the',
        '  stock detector;',
        '- widths 1.0, 0.5 and 0.25 predict.',
        '',
        'It does not say how much slims: layers that cannot slim stay at full width. Of ResNeSt 63 % remain at',
        'width 0.25 ([Backbones](backbones.md#what-is-refused)).',
        '',
        f'**{len(passed)} of {len(rows)} pass.** {len(several)} of the others consist of several models, which are '
        'refused.',
        f'`python tools/misc/check_mmdet_configs.py{" --slim detector" * whole}` regenerates this page.',
        '',
        '| folder | config | result |',
        '|---|---|---|',
    ]
    for name, row in rows:
        reason = row['reason'].replace('|', '\\|') or 'passes'
        lines.append(f'| {name} | `{Path(row["config"]).name}` | {reason} |')
    Path(path).write_text('\n'.join([*lines, '']))


def outcome(name: str, slim: str = 'backbone') -> str:
    """Check a config in a process of its own, which gives its memory back.

    Args:
        name: As ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``.
        slim: What slims: ``'backbone'`` or ``'detector'``.

    Returns:
        Why it does not pass; nothing if it does.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context('fork').Process(target=_report, args=(name, slim, theirs))
    process.start()
    theirs.close()
    if not ours.poll(TIMEOUT):
        process.kill()
        return f'took longer than {TIMEOUT} s'
    try:
        return ours.recv()
    except EOFError:
        return 'the process was killed, perhaps for its memory'
    finally:
        process.join()


def _report(name: str, slim: str, pipe: Connection) -> None:
    try:
        check_config(name, slim)
    except Exception as error:  # the table lists whatever a config fails with
        traceback.print_exc()
        line = (str(error).splitlines() or [''])[0]
        pipe.send(line if isinstance(error, ValueError) else f'{type(error).__name__}: {line}')
    else:
        pipe.send('')
