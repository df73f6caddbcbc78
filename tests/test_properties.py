"""Properties that hold for any input, not only for examples."""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData

from mmmutual.engine import SandwichSampler, rescale_batch
from mmmutual.evaluation import MeasuredSubnet, QueryTable
from mmmutual.layers.channels import active_channels

RATIOS = st.floats(0.01, 1.0, allow_nan=False)
GRIDS = st.lists(st.integers(1, 100).map(lambda value: value / 100), min_size=1, max_size=8, unique=True)
settings.register_profile('short', max_examples=60, deadline=None, derandomize=True)
settings.load_profile('short')


@given(st.integers(1, 4096), RATIOS, RATIOS)
def test_channels_are_rounded_to_what_the_layer_has(channels, first, second):
    active = active_channels(channels, first)
    assert 1 <= active <= channels
    assert active == channels or active % 8 == 0
    assert active == channels or active >= max(0.9 * channels * first, channels * first - 4)
    assert active_channels(channels, 1.0) == channels
    narrow, wide = sorted((first, second))
    assert active_channels(channels, narrow) <= active_channels(channels, wide)


@given(GRIDS, GRIDS, st.integers(2, 6), st.integers(0, 2**31), st.integers(0, 10**7))
def test_each_iteration_is_a_sandwich(widths, scales, count, seed, iteration):
    sampler = SandwichSampler(widths, scales, count, seed)
    subnets = sampler.sample(iteration)
    assert len(subnets) == count
    assert (subnets[0].width, subnets[0].scale) == (max(widths), max(scales))
    assert min(subnet.width for subnet in subnets) == min(widths)
    assert {subnet.width for subnet in subnets} <= set(widths)
    assert {subnet.scale for subnet in subnets} <= set(scales)
    assert SandwichSampler(widths[::-1], scales[::-1], count, seed).sample(iteration) == subnets


@given(st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=3), RATIOS, st.integers(1, 32))
def test_rescaled_batches_are_consistent(sizes, scale, divisor):
    frame = [max(side) for side in zip(*sizes)]
    inputs = torch.zeros(len(sizes), 3, *frame)
    samples = []
    for image, (height, width) in zip(inputs, sizes):
        image[:, :height, :width] = 1.0
        boxes = torch.tensor([[0.0, 0.0, width, height], [width / 4, height / 4, width / 2, height / 2]])
        instances = InstanceData(bboxes=HorizontalBoxes(boxes), labels=torch.arange(2))
        sample = DetDataSample(
            gt_instances=instances, metainfo=dict(img_shape=(height, width), scale_factor=(1.0, 1.0))
        )
        samples.append(sample)
    rescaled, truths = rescale_batch(inputs, samples, scale, divisor, pad_value=0.0)
    if scale < 1:
        assert all(side % divisor == 0 for side in rescaled.shape[2:])
    for image, before, after in zip(rescaled, samples, truths):
        height, width = after.img_shape
        assert max(abs(new - old * scale) for new, old in zip((height, width), before.img_shape)) <= 1
        torch.testing.assert_close(image[:, :height, :width], torch.ones(3, height, width))
        assert image.sum() == pytest.approx(3 * height * width), 'the padding is empty'
        whole, part = after.gt_instances.bboxes.tensor
        torch.testing.assert_close(whole, torch.tensor([0.0, 0.0, width, height]))
        torch.testing.assert_close(part, torch.tensor([width / 4, height / 4, width / 2, height / 2]))
        assert after.gt_instances.labels.tolist() == before.gt_instances.labels.tolist()
        assert before.gt_instances.bboxes.tensor[0].tolist() == [0.0, 0.0, *before.img_shape[::-1]], 'on copies'


METRICS = st.floats(0, 1, allow_nan=False)
SUBNETS = st.lists(
    st.tuples(RATIOS, RATIOS, st.integers(1, 10**12), METRICS, st.floats(1e-3, 1e4)),
    min_size=1, max_size=12, unique_by=lambda subnet: subnet[:2],
)  # fmt: skip


def table_of(subnets) -> QueryTable:
    context = dict(
        config='c.py', checkpoint='c.pth', checkpoint_sha256='0', size=[1, 1], device='cpu', threads=1, batch_size=1,
        versions={}, created='now',
    )  # fmt: skip
    return QueryTable(
        tuple(
            MeasuredSubnet(width, scale, cost, 1, {'box mAP': metric}, ms, ms)
            for width, scale, cost, metric, ms in subnets
        ),
        context,
    )


@given(SUBNETS, st.integers(1, 10**12))
def test_the_best_subnet_is_on_the_front_and_none_within_the_budget_beats_it(subnets, budget):
    table = table_of(subnets)
    fitting = [subnet for subnet in table.subnets if subnet.multiply_adds <= budget]
    if not fitting:
        with pytest.raises(ValueError, match='no sub-network fits'):
            table.best(budget_multiply_adds=budget)
        return
    best = table.best(budget_multiply_adds=budget)
    assert best in fitting
    assert best.metrics['box mAP'] == max(subnet.metrics['box mAP'] for subnet in fitting)
    on_front = [(subnet.multiply_adds, subnet.metrics) for subnet in table.front('multiply_adds')]
    assert (best.multiply_adds, best.metrics) in on_front


@given(SUBNETS)
def test_a_table_is_read_as_it_was_written(subnets):
    table = table_of(subnets)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'table.json'
        table.save(path)
        assert QueryTable.load(path) == table
        whole = path.read_bytes()
        for end in range(0, len(whole) - 1, max(1, len(whole) // 7)):
            path.write_bytes(whole[:end])
            with pytest.raises(ValueError, match='damaged'):
                QueryTable.load(path)
