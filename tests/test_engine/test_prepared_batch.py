"""The passes of an iteration see one batch, whatever an augmentation draws or changes in place."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

from mmmutual.engine.prepared_batch import PreparedBatch
from tests.support.tiny import build_runner, tiny_config, without_validation


@MODELS.register_module()
class DarkenAndDouble(nn.Module):
    """Draws a brightness, and doubles the boxes in place."""

    def forward(self, inputs, data_samples):
        for sample in data_samples:
            sample.gt_instances.bboxes *= 2
        return inputs * torch.rand(1), data_samples


@pytest.fixture
def preprocessor():
    return MODELS.build(dict(type='DetDataPreprocessor', batch_augments=[dict(type='DarkenAndDouble')]))


def batch():
    sample = DetDataSample(metainfo=dict(img_shape=(8, 8)))
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[1.0, 1.0, 3.0, 3.0]]), labels=torch.zeros(1).long())
    return dict(inputs=[torch.full((3, 8, 8), 100, dtype=torch.uint8)], data_samples=[sample])


def test_the_first_output_is_repeated_in_copies(preprocessor):
    prepared = PreparedBatch(preprocessor)
    data = batch()
    prepared.expect()
    first = preprocessor(data, True)
    with prepared.repeated():
        again = [preprocessor(data, True) for _ in range(2)]
    for output in again:
        assert torch.equal(output['inputs'], first['inputs'])
        assert output['data_samples'][0].gt_instances.bboxes.tolist() == [[2.0, 2.0, 6.0, 6.0]]
        output['data_samples'][0].gt_instances.bboxes.zero_()
    fresh = preprocessor(batch(), True)
    assert not torch.equal(fresh['inputs'], first['inputs'])


def test_without_an_output_it_works_as_usual(preprocessor):
    prepared = PreparedBatch(preprocessor)
    with prepared.repeated():
        assert 'inputs' in preprocessor(batch(), True)
    prepared.close()
    assert not preprocessor._forward_hooks and 'forward' not in vars(preprocessor)


def test_an_error_leaves_the_preprocessor_as_it_was(preprocessor):
    prepared = PreparedBatch(preprocessor)
    prepared.expect()
    preprocessor(batch(), True)
    with pytest.raises(ZeroDivisionError), prepared.repeated():
        _ = 1 / 0
    prepared.forget()
    assert 'forward' not in vars(preprocessor)


def test_all_passes_of_an_iteration_train_on_the_same_images(tiny_data, tmp_path):
    config = without_validation(tiny_config(tiny_data, tmp_path))
    config.train_dataloader.dataset.indices = 2
    config.custom_hooks[1].scales = (1.0,)
    config.model.data_preprocessor.batch_augments = [dict(type='DarkenAndDouble')]
    runner = build_runner(config)
    seen, loss = [], runner.model.loss

    def watch(inputs, data_samples):
        seen.append((inputs.clone(), [sample.gt_instances.bboxes.clone() for sample in data_samples]))
        return loss(inputs, data_samples)

    runner.model.loss = watch
    runner.train()
    first, *others = seen
    assert len(others) == 3
    for images, boxes in others:
        assert torch.equal(images, first[0])
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(boxes, first[1]))
