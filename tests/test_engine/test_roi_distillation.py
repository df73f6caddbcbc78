"""The box head of a narrow pass learns the predictions for the RoIs of the widest pass."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from mmmutual.engine import RoIDistillation, rescale_batch
from mmmutual.layers import use_width
from mmmutual.upstream import BoxHeadCall
from tests.support.tiny import ROOT

CLASSES, STRIDE, SIZE = 3, 4, (50, 78)
BOX_HEAD = dict(
    type='ConvFCBBoxHead', num_shared_fcs=1, fc_out_channels=16, in_channels=2, roi_feat_size=3, num_classes=CLASSES
)
EXTRACTOR = dict(
    type='SingleRoIExtractor',
    roi_layer=dict(type='RoIAlign', output_size=3, sampling_ratio=1),
    out_channels=2,
    featmap_strides=[STRIDE],
)
RCNN = dict(
    assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5),
    sampler=dict(type='RandomSampler', num=8, pos_fraction=0.5, add_gt_as_proposals=True),
    pos_weight=-1,
)


class Coordinates(nn.Module):
    """A two-stage detector whose map (N, 2, H, W) has the position in the image at each pixel, as a share of its size.

    RoIAlign is exact on it: the pooled features are the positions of the bins, which do not depend on the input scale.
    """

    def __init__(self, roi_head: str = 'StandardRoIHead') -> None:
        super().__init__()
        stages, rcnn = {}, RCNN
        if roi_head == 'CascadeRoIHead':
            stages, rcnn = dict(num_stages=2, stage_loss_weights=[1, 0.5]), [RCNN, RCNN]
        self.roi_head = MODELS.build(
            dict(
                type=roi_head,
                bbox_roi_extractor=EXTRACTOR,
                bbox_head=BOX_HEAD,
                train_cfg=Config(dict(rcnn=rcnn)).rcnn,
                **stages,
            )
        )

    def forward(self, inputs, data_samples, mode='loss'):
        (height, width), (rows, columns) = data_samples[0].img_shape, inputs.shape[2:]
        y, x = ((torch.arange(side // STRIDE) + 0.5) * STRIDE for side in (rows, columns))
        maps = torch.stack([y[:, None].expand(-1, len(x)) / height, x.expand(len(y), -1) / width])
        proposals = [InstanceData(bboxes=sample.proposals.bboxes) for sample in data_samples]
        return self.roi_head.loss((maps.repeat(len(inputs), 1, 1, 1),), proposals, data_samples)


def batch(scale: float = 1.0) -> dict:
    """Two images with an object each and proposals around it, away from the border; each scale has other proposals."""
    boxes = torch.tensor([[10.0, 12, 34, 38]])
    samples = []
    for image in range(2):
        truth = InstanceData(bboxes=boxes + 4 * image, labels=torch.tensor([image]))
        moves = torch.linspace(-6, 6, 7)[:, None] * torch.tensor([0.5, 1, 0.3, 0.4]) * scale
        sample = DetDataSample(metainfo=dict(img_shape=SIZE, pad_shape=(64, 96)), gt_instances=truth)
        sample.proposals = InstanceData(bboxes=truth.bboxes + moves)
        samples.append(sample)
    inputs, samples = rescale_batch(torch.zeros(2, 3, 64, 96), samples, scale, pad_size_divisor=32)
    return dict(inputs=inputs, data_samples=samples)


def collect(model: nn.Module, distillation: RoIDistillation, data: dict) -> tuple[dict, object]:
    """The losses from the labels of a pass, and what the distillation collects."""
    with distillation.watched(model) as passes:
        losses = model(**data, mode='loss')
    assert '_bbox_forward' not in vars(model.roi_head) and not model._forward_pre_hooks, 'watched for one pass only'
    return losses, passes[-1]


def known(scores: np.ndarray, deltas: np.ndarray) -> BoxHeadCall:
    """A box head whose predictions are known."""
    results = dict(cls_score=torch.tensor(scores), bbox_pred=torch.tensor(deltas))
    rois = torch.zeros(len(scores), 5)
    return BoxHeadCall(lambda rois: results, dict(rois=rois), results)


@pytest.mark.parametrize('boxes', [1, CLASSES])
def test_the_loss_is_a_divergence_and_a_weighted_distance(boxes):
    rng, count, temperature = np.random.default_rng(0), 5, 2.0
    ours, theirs = rng.normal(size=(2, count, CLASSES + 1))
    our_deltas, their_deltas = 2 * rng.normal(size=(2, count, boxes, 4))

    def probabilities(scores):
        return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)

    target = probabilities(theirs / temperature)
    divergence = (target * np.log(target / probabilities(ours / temperature))).sum(1)
    distance = np.abs(our_deltas - their_deltas)
    distance = np.where(distance < 1, distance**2 / 2, distance - 0.5).sum(2)
    weight = probabilities(theirs)[:, :CLASSES]
    weight = weight.sum(1, keepdims=True) if boxes == 1 else weight
    expected = (temperature**2 * divergence + (weight * distance).sum(1)).mean()

    distillation, labels = RoIDistillation(temperature, loss_weight=3.0), dict(loss_cls=torch.ones(()))
    _, student = collect(Coordinates(), distillation, batch())
    student.calls[:] = [known(ours, our_deltas.reshape(count, -1))]
    teacher = distillation.as_teacher(student)
    assert distillation.losses(labels, student, teacher, 1.0)['loss_distill'].item() == pytest.approx(0, abs=1e-6)
    teacher.predictions[0] = (torch.tensor(theirs), torch.tensor(their_deltas.reshape(count, -1)))
    losses = distillation.losses(labels, student, teacher, 1.0)
    assert losses['loss_distill'].item() == pytest.approx(3 * expected, rel=1e-5)
    assert losses['loss_cls'] is labels['loss_cls']
    student.calls[:] = [known(ours.astype(np.float16), our_deltas.reshape(count, -1).astype(np.float16))]
    loss = distillation.losses(labels, student, teacher, 1.0)['loss_distill']
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(3 * expected, rel=1e-2), 'mixed precision'


@pytest.mark.parametrize('roi_head', ['StandardRoIHead', 'CascadeRoIHead'])
@pytest.mark.parametrize('scale', [1.0, 0.75, 0.5])
def test_the_rois_of_the_teacher_hit_the_same_place_at_every_scale(roi_head, scale):
    torch.manual_seed(0)
    model, distillation = Coordinates(roi_head), RoIDistillation()
    for weight in model.roi_head.parameters():
        nn.init.normal_(weight, std=0.3)
    _, widest = collect(model, distillation, batch())
    labels, narrow = collect(model, distillation, batch(scale))
    assert len(widest.calls) == (2 if roi_head == 'CascadeRoIHead' else 1)
    teacher = distillation.as_teacher(widest)
    assert not torch.equal(teacher.rois[0] * scale, narrow.calls[0].arguments['rois']), 'the passes sample differently'
    losses = distillation.losses(labels, narrow, teacher, scale)
    assert losses['loss_distill'].item() == pytest.approx(0, abs=1e-7)
    teacher.rois[0][:, 1:] += 1  # by one pixel
    assert distillation.losses(labels, narrow, teacher, scale)['loss_distill'] > 5e-5


def test_no_rois_have_no_loss():
    distillation = RoIDistillation()
    _, narrow = collect(Coordinates(), distillation, batch())
    narrow.calls[:] = [known(np.zeros((0, CLASSES + 1)), np.zeros((0, 4 * CLASSES)))]
    assert distillation.losses({}, narrow, distillation.as_teacher(narrow), 1.0)['loss_distill'] == 0


@pytest.mark.parametrize(('detector', 'scope'), [('FasterRCNN', 'detector'), ('MaskRCNN', 'backbone')])
def test_only_the_narrow_network_learns_at_its_own_width(detector, scope):
    config = Config.fromfile(ROOT / 'configs' / 'mutual_mask_rcnn_r18_shapes_detector.py').model
    config.update(detector=detector, scope=scope)
    config.neck.slim_out = scope == 'detector'
    if detector == 'FasterRCNN':
        config.roi_head.update(mask_head=None, mask_roi_extractor=None)
    torch.manual_seed(0)
    model, distillation = MODELS.build(config), RoIDistillation()
    model.init_weights()
    data = batch()
    data['inputs'].normal_()
    for sample in data['data_samples']:
        del sample.proposals
        sample.gt_instances.masks = BitmapMasks(np.ones((1, *SIZE), dtype=np.uint8), *SIZE)
    inputs, samples = rescale_batch(**data, scale=0.5, pad_size_divisor=32)

    teacher = distillation.as_teacher(collect(model, distillation, data)[1])
    assert not any(item.requires_grad for item in (*teacher.rois, *teacher.predictions[0]))
    labels, again = collect(model, distillation, data)
    assert distillation.losses(labels, again, teacher, 1.0)['loss_distill'].item() == pytest.approx(0, abs=1e-5)
    with use_width(model, 0.5):
        labels, narrow = collect(model, distillation, dict(inputs=inputs, data_samples=samples))
        losses = distillation.losses(labels, narrow, teacher, 0.5)
    assert set(losses) == {*labels, 'loss_distill'}
    losses['loss_distill'].backward()
    assert _learning_outputs(model.backbone.conv1) == 16, 'half of 32'
    assert _learning_outputs(model.roi_head.bbox_head.shared_fcs[0]) <= (128 if scope == 'detector' else 256)
    assert (_learning_outputs(model.roi_head.bbox_head.shared_fcs[0]) > 128) == (scope == 'backbone')
    assert all(parameter.grad is None for parameter in model.rpn_head.parameters())


def _learning_outputs(layer: nn.Module) -> int:
    """How many output channels have a gradient."""
    return int(layer.weight.grad.flatten(1).any(1).sum())


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (lambda model: delattr(model, 'roi_head'), 'two-stage detector, but Coordinates has no roi_head: use dict'),
        (
            lambda model: setattr(model.roi_head.bbox_head.loss_cls, 'use_sigmoid', True),
            r"softmax and boxes, but the roi_head of Coordinates has \['ConvFCBBoxHead'\] with other predictions: use dict",
        ),
        (lambda model: setattr(model.roi_head, 'bbox_head', nn.ModuleList([nn.Identity()])), r"has \['Identity'\]"),
    ],
)
def test_other_detectors_are_refused(change, text):
    model = Coordinates()
    change(model)
    with pytest.raises(ValueError, match=text):
        RoIDistillation().find_module(model)


@pytest.mark.parametrize('arguments', [dict(temperature=0), dict(loss_weight=-1)])
def test_wrong_numbers_are_refused(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f'{name} must be .*above 0, but got {value}'):
        RoIDistillation(**arguments)
