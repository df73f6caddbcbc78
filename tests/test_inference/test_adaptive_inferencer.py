"""AdaptiveInferencer on a tiny detector with random weights."""

import gc
import json
import threading

import mmcv
import numpy as np
import pytest
import torch

import mmmutual
from mmmutual.config import scale_pipeline
from tests.support.inferencers import WIDTHS, Clock, make, same, subnets
from tests.support.tiny import build_runner, tiny_config


@pytest.mark.parametrize(('width', 'scale'), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.5), (0.25, 0.5)])
@pytest.mark.integration
def test_predictions_are_those_of_the_evaluation(inferencer, tiny_detector, tiny_data, images, width, scale):
    """The reference is MMEngine's loader over the scaled data set, and the model at that width."""
    config = tiny_config(tiny_data, tiny_detector / 'reference')
    loader = scale_pipeline(config.test_dataloader, scale)
    loader.batch_size = 1
    runner = build_runner(config)
    batches = list(runner.build_dataloader(loader))
    result = inferencer(images, width=width, scale=scale, return_datasamples=True)
    with mmmutual.use_width(inferencer.model, width), torch.no_grad():
        for batch, prediction in zip(batches, result['predictions'], strict=True):
            expected = inferencer.model.test_step(batch)[0].pred_instances
            assert len(expected) > 0
            for name in ('bboxes', 'scores', 'labels', 'masks'):
                assert torch.equal(prediction.pred_instances[name], expected[name])
    assert subnets(result) == [(width, scale)] * len(images)


def test_the_scale_is_the_size_of_the_networks_input(inferencer, images):
    for scale, side in ((1.0, 64), (0.5, 32)):
        sample = inferencer(images[0], scale=scale, return_datasamples=True)['predictions'][0]
        assert sample.img_shape == (side, side)


def test_path_array_folder_list_and_batch_give_the_same(inferencer, tiny_data, images):
    reference = inferencer(images, width=0.5)
    arrays = [mmcv.imread(image) for image in images]
    assert same(inferencer(tiny_data / 'val', width=0.5), reference)
    assert same(inferencer(str(tiny_data / 'val'), width=0.5), reference)
    assert same(inferencer(arrays, width=0.5), reference)
    assert same(inferencer([tiny_data / 'val' / image for image in images], width=0.5), reference)
    single = [inferencer(image, width=0.5)['predictions'][0] for image in images]
    assert json.dumps(single) == json.dumps(reference['predictions'])
    batched = inferencer(images, batch_size=3, width=0.5)
    assert [prediction['labels'] for prediction in batched['predictions']] == [p['labels'] for p in single]
    assert subnets(batched) == [(0.5, 1.0)] * len(images)


def test_the_options_of_det_inferencer_work(inferencer, images, tmp_path, capsys):
    out = tmp_path / 'out'
    options = dict(return_vis=True, out_dir=str(out), no_save_pred=False, pred_score_thr=0.0, print_result=True)
    result = inferencer(images[:2], 2, budget_multiply_adds=50, **options)
    assert [picture.shape for picture in result['visualization']] == [(64, 64, 3)] * 2
    assert len(list((out / 'vis').iterdir())) == len(list((out / 'preds').iterdir())) == 2
    assert 'predictions' in capsys.readouterr().out
    json.dumps(dict(predictions=result['predictions'], subnets=result['subnets']))


@pytest.mark.parametrize(
    ('choice', 'expected'),
    [
        ({}, (1.0, 1.0)),
        (dict(width=0.75), (0.75, 1.0)),
        (dict(scale=0.5), (1.0, 0.5)),
        (dict(budget_ms=75), (0.75, 1.0)),
        (dict(budget_ms=74.9), (1.0, 0.5)),
        (dict(budget_multiply_adds=25, budget_ms=30), (0.25, 1.0)),
        (dict(target_ms=40), (0.75, 0.5)),
    ],
)
def test_a_choice_chooses_the_subnet(inferencer, images, choice, expected):
    result = inferencer(images[0], **choice)
    assert subnets(result) in ([expected], [(0.5, 0.5)] if 'budget_multiply_adds' in choice else [expected])
    assert result['subnets'][0]['latency_ms'] == pytest.approx(100 * np.prod(subnets(result)[0]))


def test_a_single_frame_has_no_progress_bar(inferencer, images, capsys, monkeypatch):
    monkeypatch.setattr(inferencer, '_show_progress', True)
    inferencer(np.zeros((64, 64, 3), np.uint8))
    inferencer(images[0])
    assert 'Inference' not in capsys.readouterr().out
    inferencer(images[:2])
    assert 'Inference' in capsys.readouterr().out
    monkeypatch.undo()
    inferencer(images[:2])
    assert 'Inference' not in capsys.readouterr().out


def test_a_target_is_held_under_a_load_that_comes_and_goes(inferencer, images):
    load = 1.0
    inferencer.clock = Clock(lambda subnet: load * 100 * subnet.width * subnet.scale, inferencer)
    for load, held in ((1.0, (0.5, 1.0)), (2.0, (0.25, 1.0)), (1.0, (0.5, 1.0))):
        chosen = [subnets(inferencer(images[0], target_ms=55))[0] for _ in range(12)]
        fitting = {subnet for subnet in chosen[-4:]}
        assert len(fitting) == 1 and np.prod(list(fitting)[0]) == np.prod(held)
    assert inferencer.controller.load == pytest.approx(1.0)


def test_a_target_may_change_the_subnet_within_one_call(inferencer, images):
    inferencer.clock = Clock(lambda subnet: 2 * 100 * subnet.width * subnet.scale, inferencer)
    result = inferencer(images * 3, target_ms=101, return_datasamples=True)
    assert subnets(result)[0] == (1.0, 1.0) and np.prod(subnets(result)[-1]) == 0.5
    for sample, (_, scale) in zip(result['predictions'], subnets(result), strict=True):
        assert sample.img_shape == (64 * scale, 64 * scale)


@pytest.mark.parametrize('budget', (dict(budget_ms=5), dict(budget_multiply_adds=5)))
def test_no_subnet_within_the_budget_names_the_cheapest(inferencer, images, budget):
    with pytest.raises(ValueError, match=r'no sub-network fits a budget of 5.*the cheapest is width 0.25 at scale 0.5'):
        inferencer(images[0], **budget)


@pytest.mark.parametrize(
    'choices',
    (dict(width=0.5, budget_ms=30), dict(budget_multiply_adds=30, target_ms=30), dict(scale=0.5, target_ms=30)),
)
def test_choices_of_two_kinds_are_refused(inferencer, images, choices):
    with pytest.raises(ValueError, match='mutually exclusive: width/scale/decoder_layers, .* but got width='):
        inferencer(images[0], **choices)


def test_a_width_without_statistics_is_an_error_and_changes_nothing(inferencer, images):
    inferencer(images[0], width=0.5)
    with pytest.raises(ValueError, match='width 0.6 has no batch-norm statistics'):
        inferencer(images[0], width=0.6)
    assert mmmutual.get_width(inferencer.model) == 0.5 == inferencer.subnet.width
    with pytest.raises(ValueError, match='scale must be above 0 and at most 1'):
        inferencer(images[0], scale=1.5)


def test_threads_wait_for_each_other(inferencer, images):
    """Each thread's predictions are those of its own width."""
    expected = {width: inferencer(images, width=width) for width in WIDTHS}
    results = {}

    def run(width):
        results[width] = inferencer(images, width=width)

    threads = [threading.Thread(target=run, args=(width,)) for width in WIDTHS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for width in WIDTHS:
        assert same(results[width], expected[width]) and subnets(results[width]) == [(width, 1.0)] * len(images)


@pytest.mark.integration
def test_two_inferencers_in_two_threads_do_not_disturb_each_other(tiny_detector, images):
    """Each has its width, and its scale, while the other runs at another."""
    cases = ((1.0, 1.0), (0.25, 0.5))
    inferencers = [make(tiny_detector) for _ in cases]
    expected = [inferencer(images, width=width, scale=scale) for inferencer, (width, scale) in zip(inferencers, cases)]
    results, start = {}, threading.Barrier(len(cases))

    def run(index, width, scale):
        start.wait()
        results[index] = [inferencers[index](images, width=width, scale=scale) for _ in range(5)]

    threads = [threading.Thread(target=run, args=(index, *case)) for index, case in enumerate(cases)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, case in enumerate(cases):
        for result in results[index]:
            assert same(result, expected[index]) and subnets(result) == [case] * len(images)


@pytest.mark.integration
def test_sliced_weights_are_kept_from_call_to_call(tiny_detector, images):
    inferencer = make(tiny_detector)
    conv = inferencer.model.backbone.conv1
    before = inferencer(images[0], width=0.5)
    (operands,) = [operands for operands, _ in conv._kept.found.values()]
    assert same(inferencer(images[0], width=0.5), before)
    assert [found[0] for found in conv._kept.found.values()][0] is operands
    with torch.no_grad():
        inferencer.model.backbone.conv1.weight.mul_(-1)
    assert not same(inferencer(images[0], width=0.5), before)
    with torch.no_grad():
        inferencer.model.backbone.conv1.weight.mul_(-1)
    assert same(inferencer(images[0], width=0.5), before)


@pytest.mark.integration
def test_nothing_is_kept_after_the_inferencer(tiny_detector):
    inferencer = make(tiny_detector)
    model = inferencer.model
    assert model.backbone.conv1._kept is not None
    del inferencer
    gc.collect()
    assert model.backbone.conv1._kept is None
