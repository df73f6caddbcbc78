"""The table of docs/scope_detector.md, counted again."""

import re

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config

import mmmutual
from mmmutual.evaluation import count_multiply_adds

SIZE, SMALL = (600, 1000), (240, 400)
PARTS = ('backbone', 'neck', 'rpn_head', 'bbox_head', 'mask_head', 'total')
CONFIGS = dict(backbone='mutual_mask_rcnn_r50', detector='mutual_mask_rcnn_r50_detector')


@pytest.fixture(scope='module')
def counts(request):
    """Multiply-adds of each part under what slims, width and size."""
    found = {}
    for slim, name in CONFIGS.items():
        config = Config.fromfile(request.config.rootpath / 'configs' / f'{name}.py')
        config.model.backbone.init_cfg = None
        model = MODELS.build(config.model)
        for width in (1.0, 0.75, 0.5, 0.25):
            with mmmutual.use_width(model, width):
                found.update({(slim, width, size): count_multiply_adds(model, size) for size in (SIZE, SMALL)})
    return found


def test_the_targets(counts):
    full = counts['detector', 1.0, SIZE]['total']
    assert counts['detector', 0.25, SIZE]['total'] <= 0.09 * full
    assert counts['detector', 0.25, SMALL]['total'] <= 0.04 * full
    assert counts['detector', 1.0, SIZE] == counts['backbone', 1.0, SIZE]


def test_the_table_in_the_docs(counts, root):
    page = (root / 'docs' / 'scope_detector.md').read_text()
    rows = re.findall(r'^\| (both|backbone|detector) \| ([\d.]+) \| (.*) \|$', page, re.MULTILINE)
    assert len(rows) == 7
    full = counts['detector', 1.0, SIZE]['total']
    for slim, width, cells in rows:
        count = counts['backbone' if slim == 'both' else slim, float(width), SIZE]
        expected = [f'{count[part] / 1e9:.1f}' for part in PARTS] + [f'{100 * count["total"] / full:.1f} %']
        assert cells.split(' | ') == expected
    for slim in CONFIGS:
        small = counts[slim, 0.25, SMALL]['total']
        assert f'{small / 1e9:.1f} G' in page and f'{100 * small / full:.1f} %' in page
