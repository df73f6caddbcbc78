"""Each ```python block of README.md and docs/ runs, and prints what the block after it shows."""

import contextlib
import functools
import io
import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner

import mmmutual
from mmmutual.checkpoint import read_checkpoint
from mmmutual.deploy import export_subnet
from mmmutual.evaluation import MeasuredSubnet, QueryTable
from mmmutual.layers import SlimConv2d
from tests.support.tiny import draw_tiny

ROOT = Path(__file__).parents[2]
CONFIG = 'configs/mutual_mask_rcnn_r18_shapes.py'
WORK = Path('work_dirs/mutual_mask_rcnn_r18_shapes')
# Output stands right after its block, or after one short line.
BLOCK = re.compile(
    r'^```python\n(?P<code>.*?)^```\n(?:\n(?:(?!```)\S.{0,99}\n\n)?```text\n(?P<output>.*?)^```\n)?', re.M | re.S
)


class Block(NamedTuple):
    """Code, the number of its first line in the page, and its output or None."""

    code: str
    line: int
    output: str | None


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text()
    return [Block(m['code'], text.count('\n', 0, m.start('code')) + 1, m['output']) for m in BLOCK.finditer(text)]


def numbers_hidden(text: str) -> str:
    return re.sub(r'\d+(\.\d+)?(e-?\d+)?', '#', text)


def run(page: str, names: dict) -> None:
    """Run the blocks of a page one after the other: later ones use the names of the earlier ones."""
    for block in blocks(page):
        code = compile('\n' * (block.line - 1) + block.code, str(ROOT / page), 'exec')
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        if block.output is not None:
            trained = 'work_dirs' in block.code or 'inferencer' in block.code  # then the numbers differ
            seen = numbers_hidden if trained else str
            assert seen(printed.getvalue()) == seen(block.output), f'{page}:{block.line}'


PAGES = [
    page for page in ['README.md', *(f'docs/{p.name}' for p in sorted((ROOT / 'docs').glob('*.md')))] if blocks(page)
]


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """The folder that `make demo` leaves: data, a checkpoint (untrained here), its evaluation and its query table."""
    folder = tmp_path_factory.mktemp('docs')
    (folder / 'configs').symlink_to(ROOT / 'configs')
    draw_tiny(folder / 'data' / 'shapes')
    config = Config.fromfile(ROOT / CONFIG)
    config.train_dataloader.update(num_workers=0, persistent_workers=False)
    config.train_dataloader.dataset.data_root = f'{folder}/data/shapes/'
    model = MODELS.build(config.model)
    batches = list(Runner.build_dataloader(config.train_dataloader, seed=0))
    mmmutual.calibrate(model, batches[:1], widths=config.widths)
    work = folder / WORK
    (work / 'query_table').mkdir(parents=True)
    (work / '20260101_000000').mkdir()
    meta = dict(cfg=config.pretty_text, dataset_meta=dict(classes=config.classes), epoch=1, iter=1)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), work / 'epoch_1.pth')
    (work / 'last_checkpoint').write_text(str(work / 'epoch_1.pth'))
    grid = [(width, scale) for width in config.widths for scale in config.scales]
    subnets = [
        MeasuredSubnet(w, s, round(4e8 * w * s), 1, {'box mAP': w * s, 'mask mAP': w * s}, 100 * w * s) for w, s in grid
    ]
    context = dict(config='', checkpoint='', checkpoint_sha256='', size=[128, 128], device='', threads=1, batch_size=1)
    table = QueryTable(tuple(subnets), {**context, 'versions': {}, 'created': ''})
    table.save(work / 'query_table' / 'table.json')
    (work / '20260101_000000' / 'subnets.json').write_text(json.dumps(table.rows()))
    return folder


def given(page: str) -> dict:
    """The names and files of a reader of a page, in the folder of the demo."""
    if page == 'docs/adaptive_inference.md':
        return dict(video=['data/shapes/val/000000.png'])
    if page == 'docs/backbones.md':
        return dict(MyBlock=type('MyBlock', (torch.nn.Module,), {}))
    if page == 'docs/deploy.md':
        checkpoint = read_checkpoint((WORK / 'last_checkpoint').read_text())
        model = MODELS.build(Config.fromfile(CONFIG).model)
        model.load_state_dict(checkpoint['state_dict'])
        export_subnet(Config.fromfile(CONFIG), model, width=0.5, scale=1.0, out_dir='.', meta=checkpoint['meta'])
        shutil.copy('data/shapes/val/000000.png', 'image.png')
    if page == 'docs/speed.md':
        return dict(torch=torch, mmmutual=mmmutual, model=SlimConv2d(16, 16, 1), x=torch.ones(1, 16, 4, 4))
    if page == 'docs/transfer.md':
        Path('data/custom/annotations').mkdir(parents=True)
        shutil.copy('data/shapes/annotations/train.json', 'data/custom/annotations/labels.json')
    return {}


@pytest.mark.filterwarnings('error:.*mmmutual:DeprecationWarning')
@pytest.mark.parametrize('page', PAGES)
def test_python_blocks(page, demo, monkeypatch):
    monkeypatch.chdir(demo)
    # Without the compiler of machine code, which needs half a minute.
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='eager'))
    run(page, given(page))


def test_a_block_that_prints_something_else_fails(tmp_path, monkeypatch):
    (tmp_path / 'page.md').write_text('Text\n\n```python\nprint(1.5)\n```\n\nIt prints:\n\n```text\n2.5\n```\n')
    monkeypatch.setattr(f'{__name__}.ROOT', tmp_path)
    assert blocks('page.md') == [Block('print(1.5)\n', 4, '2.5\n')]
    with pytest.raises(AssertionError, match='page.md:4'):
        run('page.md', {})
