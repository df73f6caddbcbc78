"""Decoder layers as a choice of test loops, query tables and the inferencer, with a small DETR of random weights."""

from itertools import count

import pytest
import torch
from mmdet.registry import METRICS, MODELS
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.runner import save_checkpoint

import mmmutual
from mmmutual.engine import Subnet
from mmmutual.evaluation import fill_query_table, subnet_rows
from mmmutual.inference import AdaptiveInferencer
from mmmutual.layers import SlimBatchNorm2d
from tests.support.query_detectors import LAYERS, query_config
from tests.support.tiny import build_runner, tiny_config

WIDTHS, NUMBERS = (1.0, 0.5), (LAYERS, 2)
names = (f'layers_{index}' for index in count())


@METRICS.register_module()
class SumOfScores(BaseMetric):
    """The sum of all scores."""

    default_prefix = 'sum'

    def process(self, data_batch, data_samples) -> None:
        """Collect."""
        self.results += [float(sample['pred_instances']['scores'].sum()) for sample in data_samples]

    def compute_metrics(self, results) -> dict:
        """Add up."""
        return dict(scores=sum(results))


@pytest.fixture(scope='module')
def setting(tiny_data, tmp_path_factory):
    """A folder with a config and a checkpoint."""
    folder = tmp_path_factory.mktemp('layers')
    config = tiny_config(tiny_data, folder / 'work')
    config.model = query_config('detr')
    config.model.bbox_head.num_classes = 4
    config.model.update(type='SlimmableDetector', detector=config.model.type, widths=WIDTHS, scope='backbone')
    config.test_cfg.update(widths=WIDTHS, scales=(1.0,))
    config.test_evaluator = dict(type='SumOfScores')
    config.custom_hooks = []
    config.dump(folder / 'config.py')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    for norm in model.modules():
        if isinstance(norm, SlimBatchNorm2d):
            for width in norm.widths:
                norm.set_statistics(width, torch.zeros_like(norm.running_mean), torch.ones_like(norm.running_var))
    save_checkpoint(dict(state_dict=model.state_dict()), str(folder / 'detr.pth'))
    return folder


def config_of(setting) -> Config:
    config = Config.fromfile(setting / 'config.py')
    config.experiment_name = config.visualizer.name = next(names)
    return config


@pytest.fixture(scope='module')
def table(setting):
    path = setting / 'table.json'
    return fill_query_table(config_of(setting), setting / 'detr.pth', path, repeats=1, decoder_layers=NUMBERS[::-1])


def test_the_loop_evaluates_each_number(setting, table):
    config = config_of(setting)
    config.test_cfg.decoder_layers = NUMBERS
    config.load_from = str(setting / 'detr.pth')
    runner = build_runner(config)
    metrics = runner.test()
    assert set(metrics) == {'sum/scores', 'w1_s1_d2/sum/scores', 'w0.5_s1_d4/sum/scores', 'w0.5_s1_d2/sum/scores'}
    assert len(set(metrics.values())) == 4
    rows = {(row['width'], row['decoder_layers']): row for row in subnet_rows(runner.test_loop)}
    for subnet in table.subnets:
        row = rows[subnet.width, subnet.decoder_layers]
        assert row['multiply_adds'] == subnet.multiply_adds and row['sum/scores'] == subnet.metrics['sum/scores']
        with mmmutual.use_width(runner.model, subnet.width), torch.no_grad():
            with mmmutual.use_decoder_layers(runner.model, subnet.decoder_layers):
                found = [sample for batch in runner.test_dataloader for sample in runner.model.test_step(batch)]
        scores = sum(float(sample.pred_instances.scores.sum()) for sample in found)
        assert scores == pytest.approx(row['sum/scores'], rel=1e-5)
    assert mmmutual.get_decoder_layers(runner.model) == LAYERS


def test_a_table_has_each_number(setting, table):
    assert [subnet.key for subnet in table.subnets] == [Subnet(w, 1.0, n) for w in WIDTHS for n in NUMBERS]
    costs = [subnet.multiply_adds for subnet in table.subnets]
    assert costs == sorted(costs, reverse=True) and len(set(costs)) == 4
    assert all(subnet.latency_ms for subnet in table.subnets)


def test_a_full_table_is_not_evaluated_again(setting, table):
    path = setting / 'table.json'
    for numbers in (NUMBERS, None):  # None: all layers
        assert fill_query_table(config_of(setting), setting / 'detr.pth', path, decoder_layers=numbers) == table


def test_a_wrong_number_costs_no_evaluation(setting, table):
    with pytest.raises(ValueError, match='decoder_layers must be from 1 to 4 for this DETR, but got 6'):
        fill_query_table(config_of(setting), setting / 'detr.pth', setting / 'new.json', decoder_layers=(6, 4))
    assert not (setting / 'new.json').exists()


def test_the_inferencer_chooses(setting, table, tiny_data):
    image = str(min((tiny_data / 'val').iterdir()))
    inferencer = AdaptiveInferencer(
        setting / 'config.py', setting / 'detr.pth', 'cpu', show_progress=False, table=table
    )
    found = {number: inferencer(image, decoder_layers=number) for number in (2, LAYERS, None)}
    assert [result['subnets'][0].get('decoder_layers') for result in found.values()] == [2, LAYERS, None]
    assert found[2]['predictions'] != found[LAYERS]['predictions'] == found[None]['predictions']
    for subnet in table.subnets:
        result = inferencer(image, budget_multiply_adds=subnet.multiply_adds)
        best = table.best(budget_multiply_adds=subnet.multiply_adds)
        assert result['subnets'][0]['decoder_layers'] == best.decoder_layers
        assert mmmutual.get_decoder_layers(inferencer.model) == best.decoder_layers
    with pytest.raises(ValueError, match='decoder_layers must be from 1 to 4'):
        inferencer(image, decoder_layers=9)
