"""The CPU waits for a GPU once an iteration: a device without values stands for the GPU."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mmmutual.engine import MutualLearningHook
from mmmutual.engine.pass_losses import PassLosses
from mmmutual.layers import SlimBatchNorm2d, SlimConv2d

WIDTHS, SCALES = (1.0, 0.75, 0.5), (1.0, 0.5)
READS = ('_local_scalar_dense', 'is_nonzero', 'nonzero', 'equal', 'masked_select')


class Network(BaseModel):
    """A convolution with a norm, and losses of the features and of the boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(SlimConv2d(3, 16, 3), SlimBatchNorm2d(16, widths=WIDTHS))
        self.neck = SlimConv2d(16, 8, 1, slim_out=False)

    def forward(self, inputs, data_samples=None, mode='loss'):
        features = self.neck(self.backbone(inputs))
        boxes = torch.stack([sample.gt_instances.bboxes.sum() for sample in data_samples])
        return dict(loss_a=features.square().mean(), loss_b=[boxes * features.mean()], acc=features.max())


class Reads(TorchDispatchMode):
    """Lists the operations whose results the CPU waits for, and blocking copies between devices.

    Args:
        device: Values on other devices are read without waiting.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.found = device, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result, kwargs = func(*args, **(kwargs or {})), kwargs or {}
        name = func.overloadpacket.__name__
        read = name in READS and args[0].device.type == self.device
        moved = name == '_to_copy' and args[0].device != result.device and not kwargs.get('non_blocking')
        if read or moved:
            self.found.append(name)
        return result


class Made(TorchFunctionMode):
    """Lists the functions that make a tensor on the device from numbers: a blocking copy that is no operation."""

    def __init__(self) -> None:
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.__name__ in ('new_tensor', 'tensor', 'as_tensor') and result.device.type == 'meta':
            self.found.append(func.__name__)
        return result


class Training:
    """Iterations of the hook on a device.

    Args:
        device: ``'meta'`` has no values: reading one is an error.
        **options: Arguments of the hook.
    """

    def __init__(self, device: str, **options) -> None:
        self.model = Network().to(device).train()
        self.hook = MutualLearningHook(WIDTHS, SCALES, num_subnets=4, **options)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, foreach=False)
        hub = MessageHub.get_instance(f'synchronisation_{id(self)}')
        self.runner = SimpleNamespace(cfg=Config(), model=self.model, optim_wrapper=OptimWrapper(optimizer))
        vars(self.runner).update(message_hub=hub, seed=0, iter=0, max_iters=9, hooks=[])
        self.hook.before_train(self.runner)
        self.batch = dict(inputs=torch.rand(2, 3, 32, 32, device=device), data_samples=[])
        for _ in range(2):
            sample = DetDataSample(metainfo=dict(img_shape=(32, 32)))
            masks = BitmapMasks(np.ones((1, 32, 32), dtype=np.uint8), 32, 32)
            sample.gt_instances = InstanceData(bboxes=torch.rand(1, 4, device=device), masks=masks)
            self.batch['data_samples'].append(sample)

    def iterate(self) -> dict:
        self.hook.before_train_iter(self.runner, 0, self.batch)
        losses = self.model.train_step(self.batch, self.runner.optim_wrapper)
        self.hook.after_train_iter(self.runner, 0, self.batch, losses)
        self.runner.iter += 1
        return losses


@pytest.mark.parametrize('distill', [None, dict(type='PearsonDistillation', module='neck')], ids=['plain', 'distill'])
@pytest.mark.parametrize(('nonfinite', 'reads'), [('raise', 1), ('skip', 4)])
def test_losses_are_read_once(nonfinite, reads, distill, monkeypatch):
    read = []
    monkeypatch.setattr(torch.Tensor, 'cpu', lambda self: read.append(len(self)) or torch.zeros(len(self)))
    training = Training('meta', nonfinite=nonfinite, distill=distill)
    for _ in range(3):
        read.clear()
        with Reads('meta') as mode, Made() as made:
            losses = training.iterate()
        assert len(read) == reads
        assert sum(read) == 4 * 4 + 3 * (distill is not None), 'all values of all passes'
        assert not mode.found and not made.found, 'nothing else is read, and nothing is moved while the CPU waits'
    assert set(losses) == {'loss', 'loss_a', 'loss_b', 'acc'}
    assert all(value.device.type == 'cpu' for value in losses.values()), 'what is logged need not be read again'


def test_known_statistics_are_not_read_again(monkeypatch):
    """Whether a norm has statistics at a width is read until it has; then nothing is."""
    monkeypatch.setattr(PassLosses, 'nonfinite', lambda self: '')
    training = Training('cpu')
    training.hook.after_train_iter = lambda *args: None  # its tensors are on the CPU
    training.iterate()
    training.iterate()
    with Reads('cpu') as mode:
        training.iterate()
    assert not mode.found
