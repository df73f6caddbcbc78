import json
import logging

import pytest
import torch
from mmdet.registry import HOOKS, METRICS
from mmdet.visualization import get_palette
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook

import mmmutual
from mmmutual.engine import Subnet
from mmmutual.engine.loops.evaluators import fill_missing
from mmmutual.evaluation import subnet_rows
from mmmutual.layers import SlimBatchNorm2d, get_width
from tests.support.tiny import build_runner, run_training, tiny_config

WIDTHS = (1.0, 0.5, 0.25)


@HOOKS.register_module()
class RecordingHook(Hook):
    """Counts the calls of each hook point, and adds up the scores it is shown."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.score = 0.0

    def __getattribute__(self, name):
        if name.startswith(('before_', 'after_')) and not name.endswith(('_train', '_train_iter', '_train_epoch')):
            calls = object.__getattribute__(self, 'calls')
            return lambda *args, **kwargs: calls.update({name: calls.get(name, 0) + 1}) or self.see(**kwargs)
        return object.__getattribute__(self, name)

    def see(self, outputs=(), **kwargs) -> None:
        self.score += sum(float(sample.pred_instances.scores.sum()) for sample in outputs)


@METRICS.register_module()
class FeatureMetric(BaseMetric):
    """Input and predictions of the model: mean image width, and the sum of scores as a fingerprint."""

    default_prefix = 'seen'

    def process(self, data_batch, data_samples) -> None:
        for image, sample in zip(data_batch['inputs'], data_samples):
            self.results.append((image.shape[-1], float(sample['pred_instances']['scores'].sum())))

    def compute_metrics(self, results) -> dict:
        sizes, scores = zip(*results)
        return dict(images=len(results), size=sum(sizes) / len(sizes), score=sum(scores))


def ready(model) -> None:
    """Pretend that every width is calibrated, with other statistics for each."""
    for norm in model.modules():
        if isinstance(norm, SlimBatchNorm2d):
            for width in norm.widths:
                norm.set_statistics(
                    width, torch.full_like(norm.running_mean, 1 - width), torch.ones_like(norm.running_var)
                )


def config_for(data, work_dir, scales=(1.0, 0.5)):
    config = tiny_config(data, work_dir)
    config.val_cfg.update(widths=WIDTHS, scales=scales)
    config.test_cfg.update(widths=WIDTHS, scales=scales)
    config.val_evaluator = config.test_evaluator = dict(type='FeatureMetric')
    config.custom_hooks.append(dict(type='RecordingHook'))
    return config


@pytest.fixture
def runner(tiny_data, tmp_path):
    runner = build_runner(config_for(tiny_data, tmp_path))
    runner.model.init_weights()
    ready(runner.model)
    return runner


def score(model, runner, width) -> float:
    """The fingerprint of a width's predictions, from plain test steps."""
    with mmmutual.use_width(model.eval(), width), torch.no_grad():
        outputs = [sample for batch in runner.test_dataloader for sample in model.test_step(batch)]
    return sum(float(sample.pred_instances.scores.sum()) for sample in outputs)


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_metrics_of_every_subnet(mode, runner):
    metrics = getattr(runner, mode)()
    names = {f'{Subnet(width, scale)}/seen/score' for width in WIDTHS for scale in (1.0, 0.5)} - {'w1_s1/seen/score'}
    assert {name for name in metrics if 'score' in name} == names | {'seen/score'}
    assert list(metrics)[0].startswith('seen/')  # what save_best='auto' takes
    assert all(value == 4 for name, value in metrics.items() if name.endswith('images'))
    for width in WIDTHS:
        prefix = '' if width == 1.0 else f'w{width:g}_s1/'
        assert metrics[f'{prefix}seen/size'] == 64
        assert metrics[f'w{width:g}_s0.5/seen/size'] == 32
        assert metrics[f'{prefix}seen/score'] == pytest.approx(score(runner.model, runner, width))
    scores = {round(value, 4) for name, value in metrics.items() if name.endswith('score')}
    assert len(scores) >= 4  # of six; some saturate with random weights


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_each_hook_fires_once(mode, runner):
    metrics = getattr(runner, mode)()
    hook = next(hook for hook in runner.hooks if isinstance(hook, RecordingHook))
    widest = metrics['seen/score'] + metrics['w1_s0.5/seen/score']
    assert 0 < hook.score == pytest.approx(widest), "hooks see the widest network's predictions"
    calls = hook.calls
    epoch = {f'before_{mode}', f'before_{mode}_epoch', f'after_{mode}_epoch', f'after_{mode}'}
    assert {name: calls.get(name) for name in epoch} == dict.fromkeys(epoch, 1)
    assert calls[f'before_{mode}_iter'] == calls[f'after_{mode}_iter'] == 2 * 2  # two batches at two scales


def test_the_width_is_restored(runner, monkeypatch):
    mmmutual.set_width(runner.model, 0.5)
    runner.val()
    assert get_width(runner.model) == 0.5
    monkeypatch.setattr(runner.val_loop.evaluator, 'evaluate', lambda size: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runner.val()
    assert get_width(runner.model) == 0.5


def test_under_ema(tiny_data, tmp_path):
    """Evaluation uses the averaged weights at every width, and training continues with the former ones."""
    config = config_for(tiny_data, tmp_path, scales=(1.0,))
    config.custom_hooks.append(dict(type='EMAHook', momentum=0.5))
    config.train_cfg.update(max_epochs=1, val_interval=1)
    runner = build_runner(config)
    weights = {}

    class Spy(Hook):
        def before_val(self, runner):
            weights['before'] = runner.model.backbone.conv1.weight.clone()

        def before_val_iter(self, runner, batch_idx, data_batch=None):
            weights['inside'] = runner.model.backbone.conv1.weight.clone()

        def after_val(self, runner):
            weights['after'] = runner.model.backbone.conv1.weight.clone()

    runner.register_hook(Spy())
    runner.train()
    ema = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model.module
    assert torch.equal(weights['before'], weights['after'])
    assert torch.equal(weights['inside'], ema.backbone.conv1.weight)
    assert not torch.equal(weights['inside'], weights['before'])
    results = runner.val_loop.results
    for width in WIDTHS:
        assert results[Subnet(width, 1.0)]['seen/score'] == pytest.approx(score(ema, runner, width), rel=1e-4)


def test_save_best(tiny_data, tmp_path):
    config = tiny_config(tiny_data, tmp_path)
    config.train_cfg.update(max_epochs=1, val_interval=1)
    config.default_hooks.checkpoint.update(save_best='coco/bbox_mAP', rule='greater')
    runner = run_training(config)
    assert list(tmp_path.glob('best_coco_bbox_mAP_epoch_1.pth'))
    assert 'val/w0.25_s1/coco/bbox_mAP' in runner.message_hub.log_scalars


def test_a_subnet_that_detects_nothing_has_the_metrics_of_the_others():
    seeing = {'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_s': -1.0, 'coco/text': 'a'}
    results = {Subnet(1.0): {}, Subnet(0.5): dict(seeing), Subnet(0.25): {'coco/bbox_mAP': 0.2}}
    assert fill_missing(results) == [Subnet(1.0), Subnet(0.25)]
    assert results[Subnet(1.0)] == {'coco/bbox_mAP': 0.0, 'coco/bbox_mAP_s': -1.0}
    assert results[Subnet(0.5)] == seeing
    assert results[Subnet(0.25)] == {'coco/bbox_mAP': 0.2, 'coco/bbox_mAP_s': -1.0}
    nothing = {Subnet(1.0): {}, Subnet(0.5): {}}
    assert fill_missing(nothing) == [] and nothing[Subnet(1.0)] == {}


def test_the_best_checkpoint_is_saved_though_the_widest_network_detects_nothing(tiny_data, tmp_path):
    config = config_for(tiny_data, tmp_path, scales=(1.0,))
    config.train_dataloader.dataset.indices = 2
    config.train_cfg.update(max_epochs=1, val_interval=1)
    config.default_hooks.checkpoint.update(save_best='seen/score', rule='greater')
    config.val_cfg.widths = (1.0, 0.25)
    runner = build_runner(config)
    runner.val_loop.evaluator.evaluate = lambda size: {}
    runner.train()
    assert (tmp_path / 'best_seen_score_epoch_1.pth').exists()
    rows = subnet_rows(runner.val_loop)
    assert rows[0]['seen/score'] == 0 < rows[1]['seen/score']


def test_sets_are_told_apart(tiny_data, tmp_path):
    config = tiny_config(tiny_data, tmp_path)
    config.test_cfg.update(widths=(1.0, 0.5), scales=(1.0,))
    part = config.test_dataloader.dataset
    config.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[part, part])
    metric = dict(type='CocoMetric', ann_file=config.test_evaluator.ann_file, metric='bbox')
    config.test_evaluator = dict(
        type='MultiDatasetsEvaluator', metrics=[metric, metric], dataset_prefixes=['day', 'night']
    )
    runner = build_runner(config)
    runner.model.init_weights()
    ready(runner.model)
    runner.test()
    rows = json.loads(next(tmp_path.rglob('subnets.json')).read_text())
    assert len(rows) == 2
    for row in rows:
        assert list(row) == ['width', 'scale', 'multiply_adds', 'day box mAP', 'night box mAP']
        assert row['day box mAP'] == row['night box mAP']


def test_more_classes_than_colours_can_be_drawn(tiny_data, tmp_path):
    config = config_for(tiny_data, tmp_path)
    classes = [*config.classes, *(f'class {number}' for number in range(90))]
    config.test_dataloader.dataset.metainfo.classes = classes
    loop = build_runner(config).test_loop
    meta = loop.runner.visualizer.dataset_meta
    assert len(meta['classes']) == 94 and len(get_palette(meta['palette'], 94)) == 94


def test_the_report(tiny_data, tmp_path):
    runner = build_runner(tiny_config(tiny_data, tmp_path))
    runner.model.init_weights()
    ready(runner.model)
    lines = []
    runner.logger.setLevel(logging.INFO)
    runner.logger.handlers[0].setLevel(logging.INFO)
    runner.logger.handlers[0].emit = lambda record: lines.append(record.getMessage())
    runner.test()
    rows = json.loads(next(tmp_path.rglob('subnets.json')).read_text())
    assert [(row['width'], row['scale']) for row in rows] == [
        (w, s) for s in (1.0, 0.75, 0.5) for w in (1.0, 0.75, 0.5, 0.25)
    ]
    counts = [row['multiply_adds'] for row in rows]
    assert counts[:4] == sorted(counts[:4], reverse=True)
    assert counts[0] > counts[4] > counts[8]
    assert {'box mAP', 'mask mAP'} <= set(rows[0])
    assert next(tmp_path.rglob('subnets.png')).stat().st_size > 1000
    table = next(line for line in lines if line.startswith('Sub-networks:'))
    assert 'multiply-adds' in table and table.count('\n') > 12
    assert sum('Evaluate annotation type' in line for line in lines) <= 2


def test_predictions_are_dumped_for_each_subnet(tiny_data, tmp_path):
    config = config_for(tiny_data, tmp_path)
    config.test_evaluator = [
        dict(type='FeatureMetric'),
        dict(type='DumpDetResults', out_file_path=str(tmp_path / 'out.pkl')),
    ]
    runner = build_runner(config)
    ready(runner.model)
    runner.test()
    assert {path.name for path in tmp_path.glob('*.pkl')} == {'out.pkl'} | {
        f'out_{Subnet(width, scale)}.pkl' for width in WIDTHS for scale in (1.0, 0.5)
    } - {'out_w1_s1.pkl'}


def test_coco_ground_truth_is_shared(tiny_data, tmp_path):
    runner = build_runner(tiny_config(tiny_data, tmp_path))
    apis = {id(evaluator.metrics[0]._coco_api) for evaluator in runner.test_loop._evaluators.values()}
    assert len(apis) == 1


@pytest.mark.parametrize(
    ('options', 'widths'), [({}, (1.0, 0.75, 0.5, 0.25)), (dict(num_widths=2), (1.0, 0.25))], ids=str
)
def test_the_widths_are_those_of_the_grid(options, widths, tiny_data, tmp_path):
    config = tiny_config(tiny_data, tmp_path)
    config.test_cfg = dict(type='SubnetTestLoop', **options)
    assert build_runner(config).test_loop.widths == widths


def without_resize(config):
    config.val_dataloader.dataset.pipeline = [t for t in config.val_dataloader.dataset.pipeline if t.type != 'Resize']


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (lambda config: config.val_cfg.update(widths=()), 'widths is empty'),
        (lambda config: config.val_cfg.update(num_widths=0), 'num_widths must be at least 1, but got 0'),
        (lambda config: config.val_cfg.update(scales=(1.0, 2.0)), 'each of scales must be above 0 and at most 1'),
        (
            lambda config: config.val_cfg.update(widths=(1.0, 0.6)),
            r'width 0.6 has no batch-norm statistics.*tools/misc/calibrate.py',
        ),
        (without_resize, 'cannot evaluate at scale 0.5: the test pipeline has no Resize'),
        (lambda config: None, r'width 0.5 has no batch-norm statistics yet: they exist for \[1.0\]'),
    ],
)
def test_errors(change, text, tiny_data, tmp_path):
    config = config_for(tiny_data, tmp_path)
    change(config)
    with pytest.raises(ValueError, match=text):
        build_runner(config).val()


def test_a_built_loader_allows_the_full_scale_only(runner):
    loop = runner.val_loop
    kind = type(loop)
    kind(runner, loop.dataloader, loop.evaluator, WIDTHS)
    with pytest.raises(ValueError, match=r'scales \[0.5\] need the config of the data loader.*DataLoader'):
        kind(runner, loop.dataloader, loop.evaluator, WIDTHS, scales=(1.0, 0.5))
