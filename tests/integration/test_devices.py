"""No tensor is made on a wrong device: on a pretended device, everything computes the same as on the CPU.

The checks run in a separate process: torch registers a device once, and for good.
"""

import math
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from operator import attrgetter

import numpy as np
import pytest
import torch
from mmcv.ops import nms
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

import mmmutual
from mmmutual.deploy import narrow_
from mmmutual.engine import rescale_batch
from mmmutual.engine.averaging import start_averages, swap_statistics
from mmmutual.layers import SlimBatchNorm2d, slim_layer_
from mmmutual.testing.small_config import demo_batch
from speed.iterations import TimedIteration
from tests.support import pretended_device, tiny_transformers
from tests.support.annotated_batches import batch_of
from tests.support.pretended_device import NAME, PretendedTensor
from tests.support.small_detectors import stock_detector
from tests.support.tiny import ROOT
from tests.test_layers.test_swap import KINDS, WIDTHS, call

GRID, SIZE = (1.0, 0.75, 0.5, 0.25), 128


def start() -> None:
    torch.set_num_threads(1)
    register_all_modules(init_default_scope=True)
    pretended_device.pretend()


@pytest.fixture(scope='module')
def process():
    """Calls a function of this module where the device exists."""
    with get_context('spawn').Pool(1, start) as pool:
        yield pool.apply


def check_same(compute: Callable[..., Iterator[Tensor]], *args: object) -> None:
    """What is computed on the device stays there, and has the values of the CPU."""
    expected, found = list(compute('cpu', *args)), list(compute(NAME, *args))
    assert len(found) == len(expected) > 0
    for tensor, reference in zip(found, expected):
        assert (type(tensor.data), type(reference.data)) == (PretendedTensor, Tensor), tuple(tensor.shape)
        torch.testing.assert_close(tensor.cpu(), reference, rtol=0, atol=0, equal_nan=True)


def state_of(model: nn.Module) -> Iterator[Tensor]:
    return iter([*model.parameters(), *model.buffers()])


def mask_rcnn(**options) -> nn.Module:
    """The small Mask R-CNN with a head for semantic maps."""
    model = Config.fromfile(ROOT / 'configs' / 'mutual_mask_rcnn_r18_shapes.py').model
    semantic = dict(
        type='PanopticFPNHead', num_things_classes=1, num_stuff_classes=1, in_channels=48, inner_channels=32
    )
    model.update(
        type='PanopticFPN', semantic_head=dict(semantic, loss_seg=dict(type='CrossEntropyLoss', ignore_index=255))
    )
    model.data_preprocessor.update(pad_seg=True)
    model.backbone.update(options)
    return MODELS.build(model)


def transformer(config: Callable[[], dict]) -> nn.Module:
    model = MODELS.build(config())
    model.init_weights()  # some parameters are memory that was not written before
    mmmutual.make_slimmable_(model, GRID, scope='detector')
    return model


CASES = {
    'labels': (mask_rcnn, {}),
    'predictions': (
        lambda: mask_rcnn(norm_cfg=dict(type='SwitchableBN')),
        dict(distill=dict(type='RoIDistillation'), nonfinite='skip', loss_reduction='mean'),
    ),
    'windows': (lambda: transformer(tiny_transformers.swin), dict(distill=dict(type='PearsonDistillation'))),
    'queries': (lambda: transformer(tiny_transformers.dino), {}),
}


def iteration(device: str, case: str, spoil: bool = False) -> Iterator[Tensor]:
    """The losses of an iteration, its gradients, which are the first momenta, and the statistics."""
    build, options = CASES[case]
    torch.manual_seed(0)
    model = build().to(device)
    if spoil:
        model.neck.register_forward_hook(lambda layer, args, levels: [level + torch.zeros(1) for level in levels])
    mutual = TimedIteration(model, demo_batch(model, SIZE, with_mask=True), GRID, **options)
    losses = mutual()
    assert all(map(math.isfinite, losses)) and len(losses) == 4
    momenta = [state['momentum_buffer'] for state in mutual.runner.optim_wrapper.optimizer.state.values()]
    assert len(momenta) > 50
    return iter([torch.tensor(losses, device=device), *momenta, *model.buffers()])


@pytest.mark.parametrize('case', CASES)
def test_an_iteration(case, process):
    process(check_same, (iteration, case))


def test_a_tensor_of_the_cpu_in_a_model_is_an_error(process):
    with pytest.raises(RuntimeError, match=r'add has tensors on pretended and on the CPU, which is of shape \(1,\)'):
        process(iteration, (NAME, 'labels', True))


def layer(device: str, name: str) -> Iterator[Tensor]:
    """The outputs of a layer at each width, the gradients, and the statistics."""
    build, _, (inputs, outputs) = KINDS[name]
    torch.manual_seed(0)
    slimmable, found = build().to(device), []
    slim_layer_(slimmable, WIDTHS, inputs, outputs)
    for width in WIDTHS:
        x = torch.rand(2, 16 if width == 1.0 else 8, 4, 4).to(device).requires_grad_()
        with mmmutual.use_width(slimmable, width):
            output = call(slimmable, x)
        output.square().sum().backward()
        found += [output.detach(), x.grad]
    gradients = [weight.grad for weight in slimmable.parameters() if weight.grad is not None]
    return iter([*found, *gradients, *slimmable.buffers()])


@pytest.mark.parametrize('name', KINDS)
def test_a_layer(name, process):
    process(check_same, (layer, name))


def rescaled(device: str, kind: type, boxes: bool) -> Iterator[Tensor]:
    """A rescaled batch with boxes, masks, semantic maps, ignored instances and proposals."""
    batch = batch_of(kind, boxtype2tensor=not boxes)
    samples = [sample.to(device) for sample in batch['data_samples']]
    assert samples[0].gt_sem_seg.sem_seg.device.type == samples[0].proposals.bboxes.device.type == device
    images, samples = rescale_batch(batch['inputs'].to(device), samples, 0.6, 32)
    parts = [part for sample in samples for part in dict(sample.items()).values()]
    values = [value for part in parts for value in dict(part.items()).values()]
    masks = [value for value in values if isinstance(value, (BitmapMasks, PolygonMasks))]
    assert masks and all(isinstance(each, kind) for each in masks)
    crops = [
        each.crop_and_resize(np.array([[2.0, 3, 20, 30]] * 2, np.float32), (7, 7), np.zeros(2, int), device)
        for each in masks
    ]
    values = [getattr(value, 'tensor', value) for value in values]
    tensors = [value for value in values if isinstance(value, Tensor)]
    return iter([images, *tensors, *(torch.from_numpy(each.to_ndarray()).to(device) for each in crops)])


@pytest.mark.parametrize('boxes', [True, False], ids=['boxes', 'tensors'])
@pytest.mark.parametrize('kind', [PolygonMasks, BitmapMasks])
def test_rescaling(kind, boxes, process):
    process(check_same, (rescaled, kind, boxes))


def calibrated(device: str) -> Iterator[Tensor]:
    model = mask_rcnn()
    batches = [demo_batch(model, SIZE, with_mask=True) for _ in range(2)]
    torch.manual_seed(0)
    model.init_weights()
    mmmutual.calibrate(model.to(device), batches, (*GRID, 0.6), scales=(1.0, 0.75))
    assert all(norm.is_ready(0.6) for norm in model.modules() if isinstance(norm, SlimBatchNorm2d))
    return model.buffers()


def ordered(device: str, importance: str) -> Iterator[Tensor]:
    """A stock detector on the device, whose channels are ordered, made slimmable, evaluated and exported."""
    torch.manual_seed(0)
    model = MODELS.build(stock_detector()).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sum(maps.square().mean() for maps in model.extract_feat(torch.rand(1, 3, 64, 64).to(device))).backward()
    optimizer.step()
    average = ExponentialMovingAverage(model, device=device)
    mmmutual.order_channels_(model, importance=importance, optimizer=optimizer, averages=[average.module])
    momenta = [state['momentum_buffer'] for state in optimizer.state.values()]
    mmmutual.make_slimmable_(model, GRID, scope='detector')
    return iter([*momenta, *state_of(model), *state_of(average.module)])


@pytest.mark.parametrize('importance', ['norm_scale', 'l1'])
def test_order_of_the_channels(importance, process):
    process(check_same, (ordered, importance))


def averaged(device: str) -> Iterator[Tensor]:
    torch.manual_seed(0)
    model = mask_rcnn().to(device)
    average = ExponentialMovingAverage(model, update_buffers=True, device=device)
    for norm in model.modules():
        if isinstance(norm, SlimBatchNorm2d):
            norm.set_statistics(0.5, *torch.rand(2, norm.num_features).to(device))
    start_averages(model, average, (0.5,))
    average.update_buffers = False
    swap_statistics(model, average)
    return iter([*model.buffers(), *average.module.buffers()])


def detected(device: str) -> Iterator[Tensor]:
    """The outputs of a detector at each width, and of its export."""
    torch.manual_seed(0)
    model = MODELS.build(dict(stock_detector(), type='SlimmableDetector', detector='RetinaNet', widths=GRID)).to(device)
    batch, found = demo_batch(model, SIZE, with_mask=False), []
    mmmutual.calibrate(model, [batch])
    for width in GRID:
        with mmmutual.use_width(model.eval(), width), torch.no_grad():
            found += [sample.pred_instances for sample in model.test_step(batch)]
    narrow_(model, 0.5)
    with torch.no_grad():
        found += [sample.pred_instances for sample in model.test_step(batch)]
    return (value for instances in found for value in (instances.bboxes, instances.scores))


@pytest.mark.parametrize('compute', [calibrated, averaged, detected], ids=attrgetter('__name__'))
def test_a_model(compute, process):
    process(check_same, (compute,))


def check_mistakes() -> None:
    x = torch.rand(3, device=NAME)
    assert (x + torch.tensor(1.0)).device.type == NAME and x[torch.tensor([2, 0])].device.type == NAME
    generator = torch.Generator()
    for mistake in (
        lambda: x + torch.zeros(3),
        lambda: torch.zeros(3)[x.long()],
        lambda: torch.stack((x[0], torch.tensor(1.0))),
        lambda: torch.rand(3, generator=generator, device=NAME),
        lambda: nms(torch.rand(3, 4), x, 0.5),
        lambda: nn.Linear(3, 3)(x),
        lambda: x.numpy(),
    ):
        with pytest.raises(RuntimeError, match='on pretended|not supported for tensor subclasses'):
            mistake()


def test_mistakes_are_errors_as_on_a_gpu(process):
    process(check_mistakes)
