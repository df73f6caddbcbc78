"""Losses that a model predicts are split off, as in MMEngine's own loops, and logged for the widest network."""

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from mmmutual.layers import SlimLinear


@MODELS.register_module()
class LosingModel(BaseModel):
    """Predicts a data element for each input, and then its losses."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = SlimLinear(16, 16)
        torch.nn.init.constant_(self.layer.weight, 1.0)
        torch.nn.init.zeros_(self.layer.bias)

    def forward(self, inputs, data_sample, mode='tensor'):
        out = self.layer(torch.stack(inputs))
        losses = dict(loss_sum=out.sum(), loss_parts=[out.mean(), out.mean()])
        return [*(BaseDataElement(pred=item) for item in out), BaseDataElement(loss=losses)]


@DATASETS.register_module()
class Numbers(Dataset):
    metainfo = {}

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return dict(inputs=torch.full((16,), float(index)), data_sample=torch.zeros(1))


@METRICS.register_module()
class CountPredictions(BaseMetric):
    default_prefix = 'count'

    def process(self, data_batch, data_samples):
        assert all('pred' in sample for sample in data_samples)
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(seen=len(results))


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_losses_are_those_of_the_stock_loop(mode, tmp_path):
    loops = {
        'stock': dict(type=f'{mode.title()}Loop'),
        'subnets': dict(type=f'Subnet{mode.title()}Loop', widths=(1.0, 0.5)),
    }
    results = {}
    for name, loop in loops.items():
        loader = dict(dataset=dict(type='Numbers'), sampler=dict(type='DefaultSampler', shuffle=False), batch_size=3)
        options = {
            f'{mode}_dataloader': loader,
            f'{mode}_evaluator': dict(type='CountPredictions'),
            f'{mode}_cfg': loop,
            'work_dir': str(tmp_path),
            'experiment_name': f'{mode}_{name}',
            'log_level': 'ERROR',
        }
        runner = Runner(model=dict(type='LosingModel'), **options)
        results[name] = [getattr(runner, mode)() for _ in range(2)][-1]  # a second run adds nothing to the first
    narrow = {key: value for key, value in results['subnets'].items() if key.startswith('w0.5_s1/')}
    assert narrow == {'w0.5_s1/count/seen': 6}
    assert {key: value for key, value in results['subnets'].items() if key not in narrow} == results['stock']
    assert f'{mode}_loss' in results['stock']
