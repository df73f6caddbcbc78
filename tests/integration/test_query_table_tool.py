"""The query table on a tiny data set: what is evaluated, what is not evaluated again, and what is refused."""

import importlib.util
import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner, save_checkpoint

import mmmutual
from mmmutual.checkpoint import read_checkpoint
from mmmutual.config import scale_pipeline
from mmmutual.evaluation import Latency, MeasuredSubnet, QueryTable, count_multiply_adds, fill_query_table
from mmmutual.evaluation.parameter_counts import count_parameters
from mmmutual.evaluation.query_table import fill as query_table
from mmmutual.layers import SlimBatchNorm2d, get_width
from tests.support.tiny import tiny_config

WIDTHS, SCALES = (1.0, 0.5), (1.0, 0.5)
PLUGIN = Path(__file__).parents[1] / 'data' / 'query_plugin.py'


@pytest.fixture(scope='module')
def setting(tiny_data, tmp_path_factory):
    """A folder with a config, and a checkpoint of random weights that is calibrated at all widths."""
    spec = importlib.util.spec_from_file_location(PLUGIN.stem, PLUGIN)
    sys.modules[PLUGIN.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[PLUGIN.stem])
    folder = tmp_path_factory.mktemp('query')
    config = tiny_config(tiny_data, folder / 'work')
    config.custom_imports.imports.append(PLUGIN.stem)
    config.test_cfg.update(widths=WIDTHS, scales=SCALES)
    config.launcher = 'pytorch'  # as a distributed training leaves it in the work dir
    config.test_evaluator = dict(type='Fingerprint')
    config.custom_hooks = [dict(type='CountAndKill', log=str(folder / 'batches.txt'))]
    config.dump(folder / 'config.py')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    for norm in model.modules():
        if isinstance(norm, SlimBatchNorm2d):
            for width in norm.widths:
                norm.set_statistics(
                    width, torch.full_like(norm.running_mean, 1 - width), torch.ones_like(norm.running_var)
                )
    save_checkpoint(dict(state_dict=model.state_dict()), str(folder / 'tiny.pth'))
    return folder


names = (f'query_{i}' for i in itertools.count())


def config_of(setting, **options) -> Config:
    """The config, with a separate experiment name, as MMEngine needs in one process."""
    config = Config.fromfile(setting / 'config.py')
    config.merge_from_dict(options)
    config.experiment_name = config.visualizer.name = next(names)
    return config


def fill(setting, path, config=None, checkpoint='tiny.pth', **options) -> QueryTable:
    options = {'repeats': 1, **options}
    return fill_query_table(config or config_of(setting), setting / checkpoint, path, **options)


def batches(setting) -> list[int]:
    """Image sizes of the batches evaluated since the last call."""
    log = setting / 'batches.txt'
    sizes = [int(line) for line in log.read_text().split()] if log.exists() else []
    log.unlink(missing_ok=True)
    return sizes


def tool(setting, *arguments, **environment) -> subprocess.CompletedProcess:
    script = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'query_table.py'
    command = [sys.executable, script, 'config.py', 'tiny.pth', '--repeats', '1', *map(str, arguments)]
    environment = {**os.environ, 'PYTHONPATH': str(PLUGIN.parent), **environment}
    return subprocess.run(command, cwd=setting, env=environment, capture_output=True, text=True, timeout=240)


def without_latency(table: QueryTable) -> list[MeasuredSubnet]:
    return [replace(subnet, latency_ms=None, latency_p90_ms=None) for subnet in table.subnets]


@pytest.fixture(scope='module')
def whole(setting):
    """The table of an uninterrupted run."""
    batches(setting)
    table = fill(setting, setting / 'whole.json')
    assert batches(setting) == [64, 64, 32, 32]  # each scale once, both widths on each loaded batch
    return table


def test_the_table_has_what_each_subnet_does(setting, whole):
    config = config_of(setting)
    model = MODELS.build(config.model).eval()
    model.load_state_dict(read_checkpoint(setting / 'tiny.pth')['state_dict'])
    pairs = [(subnet.width, subnet.scale) for subnet in whole.subnets]
    assert pairs == [(1.0, 1.0), (0.5, 1.0), (1.0, 0.5), (0.5, 0.5)]
    for subnet in whole.subnets:
        loader = Runner.build_dataloader(scale_pipeline(config.test_dataloader, subnet.scale))
        with mmmutual.use_width(model, subnet.width), torch.no_grad():
            found = [sample.pred_instances for batch in loader for sample in model.test_step(batch)]
            size = tuple(round(64 * subnet.scale) for _ in range(2))
            assert subnet.multiply_adds == count_multiply_adds(model, size)['total']
            assert subnet.parameters == count_parameters(model)
        assert subnet.metrics == {
            'print/score': pytest.approx(sum(float(one.scores.sum()) for one in found)),
            'print/boxes': pytest.approx(sum(float(one.bboxes.sum()) for one in found)),
        }
        assert 0 < subnet.latency_ms <= subnet.latency_p90_ms
    assert len({subnet.metrics['print/boxes'] for subnet in whole.subnets}) == 4
    assert whole.complete and QueryTable.load(setting / 'whole.json') == whole


def test_context(setting, whole):
    context = whole.context
    assert (context['config'], context['checkpoint'], context['size']) == ('config.py', 'tiny.pth', [64, 64])
    assert (context['threads'], context['batch_size']) == (torch.get_num_threads(), 1)
    assert context['latency'] == {'images': 5, 'warmup': 5, 'repeats': 1}
    assert context['versions']['torch'] == torch.__version__
    assert context['versions']['mmmutual'] == mmmutual.__version__
    assert len(context['checkpoint_sha256']) == len(context['config_sha256']) == len(context['data_sha256']) == 64


def test_a_killed_run_continues(setting, whole):
    """Killed in the first batch of the second scale: that scale is evaluated again, the first one is not."""
    path = setting / 'work' / 'query_table' / 'table.json'
    killed = tool(setting, KILL_AT='3')
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert batches(setting) == [64, 64, 32]
    partial = QueryTable.load(path)
    assert not partial.complete
    known = [(subnet.width, subnet.scale, subnet.latency_ms) for subnet in partial.subnets]
    assert known == [(1.0, 1.0, None), (0.5, 1.0, None)]

    continued = tool(setting, '--budget-multiply-adds', whole.subnets[-1].multiply_adds)
    assert continued.returncode == 0, continued.stderr
    assert batches(setting) == [32, 32]
    table = QueryTable.load(path)
    assert table.complete
    assert without_latency(table) == without_latency(whole)
    assert {file.name for file in path.parent.iterdir()} == {
        'table.json', 'table.csv', 'front_multiply_adds.png', 'front_latency.png'
    }  # fmt: skip
    assert not list((setting / 'work').rglob('subnets.json'))  # a pass over one scale does not write a report
    assert 'best within the budget: width 0.5 at scale 0.5: ' in continued.stdout
    assert '100%' in continued.stderr and 'left' in continued.stderr

    again = tool(setting, '--budget-ms', 0.001)
    assert (again.returncode, batches(setting)) == (1, [])
    assert QueryTable.load(path) == table
    assert '| width | scale | multiply-adds | parameters | ms (median) | ms (p90) |' in again.stdout
    assert 'error: no sub-network fits a budget of 0.0 ms: the cheapest is width' in again.stderr
    assert 'Traceback' not in again.stderr


def test_a_complete_table_needs_neither_model_nor_data(setting, whole, monkeypatch):
    monkeypatch.setattr(Runner, 'from_cfg', lambda config: 1 / 0)
    monkeypatch.setattr(query_table, 'read_checkpoint', lambda path: 1 / 0)
    config = config_of(setting)
    assert fill(setting, setting / 'whole.json', config) == whole
    assert fill(setting, setting / 'whole.json', config, widths=(0.5,), scales=(0.5,)) == whole
    monkeypatch.setattr(query_table, 'identity', lambda *args: {**whole.context, 'data_sha256': None})
    assert fill(setting, setting / 'whole.json', config) == whole


def test_more_widths_join_the_table(setting, whole):
    path = setting / 'grown.json'
    fill(setting, path, widths=(0.5,), scales=(1.0,))
    assert batches(setting) == [64, 64]
    table = fill(setting, path)
    assert batches(setting) == [64, 64, 32, 32]
    assert without_latency(table) == without_latency(whole)
    assert 'latency_ms' in table.costs and table.complete


def test_the_latency_is_that_of_the_subnet(setting, whole, monkeypatch):
    """Each timed call runs at the subnet's width on images of its scale; nothing is evaluated again."""
    seen = []

    def measure(call, keys, prepare, on_call, **options):
        for subnet in keys:
            prepare(subnet)
            call(subnet, 7)
            on_call(subnet)
        return {subnet: Latency(subnet.width, subnet.scale + 10) for subnet in keys}

    def test_step(self, data):
        (image,) = data['inputs']
        assert not torch.is_grad_enabled() and not self.training
        seen.append((get_width(self), image.shape[-1] / 64))

    monkeypatch.setattr(query_table, 'measure_latency', measure)
    monkeypatch.setattr('mmdet.models.MaskRCNN.test_step', test_step)
    whole.save(setting / 'timed.json')
    table = fill(setting, setting / 'timed.json', remeasure=True)
    assert batches(setting) == []
    assert seen == [(subnet.width, subnet.scale) for subnet in whole.subnets]
    assert [subnet.latency_ms for subnet in table.subnets] == [subnet.width for subnet in whole.subnets]
    assert [subnet.latency_p90_ms for subnet in table.subnets] == [subnet.scale + 10 for subnet in whole.subnets]
    assert without_latency(table) == without_latency(whole)


def other_checkpoint(setting):
    content = read_checkpoint(setting / 'tiny.pth')
    save_checkpoint(dict(state_dict=content['state_dict'], meta=dict(epoch=2)), str(setting / 'other.pth'))
    return dict(checkpoint='other.pth')


def other_config(setting):
    return dict(config=config_of(setting, **{'model.test_cfg.rcnn.max_per_img': 3}))


@pytest.mark.parametrize(
    ('change', 'what'),
    [(other_checkpoint, 'checkpoint'), (other_config, 'model, test data or evaluator')],
)
def test_a_table_of_something_else_is_not_continued(change, what, setting, whole):
    options = change(setting)
    with pytest.raises(ValueError, match=f'written for another {what} .*--force, or a second one with --out'):
        fill(setting, setting / 'whole.json', **options)
    assert QueryTable.load(setting / 'whole.json') == whole


def test_other_annotations_are_noticed(setting, whole, tmp_path):
    config = config_of(setting)
    before = query_table.identity(config, setting / 'tiny.pth')
    dataset = config.test_dataloader.dataset
    source = Path(dataset.data_root, dataset.ann_file)
    dataset.ann_file = str(tmp_path / 'val.json')
    assert query_table.identity(config, setting / 'tiny.pth')['data_sha256'] is None
    (tmp_path / 'val.json').write_text(source.read_text())
    assert query_table.identity(config, setting / 'tiny.pth')['data_sha256'] == before['data_sha256']
    (tmp_path / 'val.json').write_text(source.read_text() + ' ')
    changed = {**before, 'data_sha256': query_table.identity(config, setting / 'tiny.pth')['data_sha256']}
    with pytest.raises(ValueError, match='written for another data'):
        query_table.check_identity(whole.context, changed, 'whole.json')


def test_a_damaged_table_is_refused_unless_forced(setting, whole, tmp_path):
    path = tmp_path / 'table.json'
    path.write_bytes((setting / 'whole.json').read_bytes()[:-100])
    with pytest.raises(ValueError, match='is damaged.*--force'):
        fill(setting, path)
    batches(setting)
    table = fill(setting, path, force=True)
    assert batches(setting) == [64, 64, 32, 32]
    assert without_latency(table) == without_latency(whole)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(widths=(0.6,)), 'width 0.6 has no batch-norm statistics'),
        (dict(widths=(1.5,)), 'each of widths must be above 0 and at most 1'),
        (dict(scales=(0.0,)), 'each of scales must be above 0'),
        (dict(repeats=0), 'repeats must be at least 1, but got 0'),
    ],
)
def test_wrong_options(options, text, setting, tmp_path):
    with pytest.raises(ValueError, match=text):
        fill(setting, tmp_path / 'table.json', **options)
    assert batches(setting) == []


def test_without_resize(setting, tmp_path):
    config = config_of(setting)
    pipeline = config.test_dataloader.dataset.pipeline
    config.test_dataloader.dataset.pipeline = [transform for transform in pipeline if transform.type != 'Resize']
    with pytest.raises(ValueError, match='needs the size of the test images, but the test pipeline has no Resize'):
        fill(setting, tmp_path / 'table.json', config, scales=(1.0,))


def test_another_file_is_not_overwritten(setting, tmp_path):
    notes = tmp_path / 'notes.md'
    notes.write_text('mine')
    with pytest.raises(ValueError, match=r'its path must end in .json, but is .*notes.md'):
        fill(setting, notes, force=True)
    assert notes.read_text() == 'mine'


def test_no_checkpoint(setting, tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no checkpoint file .*absent.pth'):
        fill(setting, tmp_path / 'table.json', checkpoint='absent.pth')


def test_a_subnet_that_detects_nothing_has_zeros():  # MMDetection's COCO metric gives no mAP then
    blind, seeing = MeasuredSubnet(0.5, 0.5, 1, 1, {}), MeasuredSubnet(1.0, 1.0, 2, 2, {'box mAP': 0.3})
    assert query_table._same_metrics([blind, seeing]) == (seeing, replace(blind, metrics={'box mAP': 0.0}))
    with pytest.raises(ValueError, match='no sub-network detected anything'):
        query_table._same_metrics([blind])
