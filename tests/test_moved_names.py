"""Names that moved are importable from where they were, and former names are accepted, with a warning."""

import argparse
import json
import runpy
from contextlib import nullcontext
from copy import deepcopy
from importlib import import_module

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

import mmmutual
from mmmutual import evaluation
from mmmutual.checkpoint.fingerprint import identity
from mmmutual.evaluation import MeasuredSubnet, QueryTable
from mmmutual.inference import LatencyController
from mmmutual.inference.adaptive_inferencer import _Result
from mmmutual.layers import Segment
from mmmutual.moved_names import RenamedOption, renamed_argument

SUBNET = MeasuredSubnet(1.0, 1.0, 1000, 40, {'box mAP': 0.4}, 30.0, 33.0)
CONTEXT = dict.fromkeys(('config', 'checkpoint', 'checkpoint_sha256', 'device', 'created'), 'x')
TABLE = QueryTable((SUBNET,), {**CONTEXT, 'size': [64, 64], 'threads': 1, 'batch_size': 1, 'versions': {}})


@pytest.mark.parametrize(
    ('module', 'name', 'place'),
    [
        ('mmmutual.apis', 'AdaptiveInferencer', 'mmmutual.inference'),
        ('mmmutual.apis', 'make_mutual', 'mmmutual.config'),
        ('mmmutual.apis', 'read_checkpoint', 'mmmutual.checkpoint'),
        ('mmmutual.analysis', 'QueryTable', 'mmmutual.evaluation'),
        ('mmmutual.analysis', 'plot_front', 'mmmutual.evaluation.plotting'),
        ('mmmutual.engine', 'scale_pipeline', 'mmmutual.config'),
    ],
)
def test_the_former_place_warns(module, name, place):
    with pytest.warns(DeprecationWarning, match=f'{module}.{name} is deprecated .* use {place}.{name}$'):
        found = getattr(import_module(module), name)
    assert found is getattr(import_module(place), name)


@pytest.mark.parametrize('module', ['mmmutual.apis', 'mmmutual.analysis', 'mmmutual.engine'])
def test_every_name_is_there_and_others_are_not(module):
    module = import_module(module)
    places = module.__getattr__.__closure__
    names = next(cell.cell_contents for cell in places if isinstance(cell.cell_contents, dict))
    with pytest.warns(DeprecationWarning):
        assert all(getattr(module, name) is not None for name in names)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


@renamed_argument('old', 'new')
def function(new: int, other: int = 0) -> int:
    """Something that had another argument."""
    return new + other


def test_a_renamed_argument():
    with pytest.warns(DeprecationWarning, match='the argument old is deprecated .* use new$') as warned:
        assert function(other=1, old=2) == 3
    assert len(warned) == 1 and warned[0].filename == __file__
    assert function(2) == function(new=2) == 2
    with pytest.raises(ValueError, match='new and old are the same argument: leave the deprecated old out'):
        function(new=1, old=1)


def test_a_renamed_option(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument('--new-name', type=float, default=1.0)
    parser.add_argument('--old-name', type=float, dest='new_name', action=RenamedOption)
    assert '--old-name' not in parser.format_help()
    assert parser.parse_args([]).new_name == 1.0 and parser.parse_args(['--new-name', '2']).new_name == 2.0
    assert not capsys.readouterr().err
    assert parser.parse_args(['--old-name', '3']).new_name == 3.0
    assert capsys.readouterr().err.strip() == (
        'note: --old-name is deprecated and will be removed in mmmutual 0.3: use --new-name'
    )


@pytest.mark.parametrize(
    ('use', 'warning'),
    [
        (
            lambda: evaluation.Cell is MeasuredSubnet,
            'mmmutual.evaluation.Cell .* use mmmutual.evaluation.MeasuredSubnet',
        ),
        (lambda: TABLE.cells == TABLE.subnets, 'QueryTable.cells .* use subnets'),
        (lambda: TABLE.cell(1.0, 1.0) is SUBNET, 'QueryTable.cell .* use subnet'),
        (lambda: TABLE.best(budget_flops=1000) is SUBNET, 'the argument budget_flops .* use budget_multiply_adds'),
        (lambda: LatencyController([SUBNET], 40.0).cell is SUBNET, 'LatencyController.cell .* use subnet'),
        (lambda: LatencyController([SUBNET], 40.0).cells == (SUBNET,), 'LatencyController.cells .* use subnets'),
        (lambda: LatencyController(cells=[SUBNET], target_ms=40.0).load == 1.0, 'the argument cells .* use subnets'),
        (lambda: Segment.complete(8) == Segment.full(8), 'Segment.complete .* use full'),
        (lambda: Segment(8).is_complete, 'Segment.is_complete .* use is_full'),
        (lambda: _Result(subnets=[1])['cells'] == [1], r"result\['cells'\] .* use result\['subnets'\]"),
    ],
)
def test_former_names_of_attributes_and_arguments(use, warning):
    with pytest.warns(DeprecationWarning, match=warning) as warned:
        assert use()
    assert len(warned) == 1 and warned[0].filename == __file__


def test_a_result_has_no_other_key():
    with pytest.raises(KeyError, match='nothing'):
        _Result(subnets=[])['nothing']


def test_a_query_table_of_an_earlier_version(tmp_path):
    TABLE.save(tmp_path / 'new.json')
    content = json.loads((tmp_path / 'new.json').read_text())
    content['cells'] = content.pop('subnets')
    (tmp_path / 'old.json').write_text(json.dumps(content))
    assert QueryTable.load(tmp_path / 'old.json') == QueryTable.load(tmp_path / 'new.json') == TABLE


def test_a_config_with_the_former_name_of_the_scope(root, tmp_path):
    """It builds with one warning, and its query table remains valid if the config takes the new name."""
    config = Config.fromfile(root / 'tests' / 'data' / 'retinanet.py')
    config.model.backbone = dict(type='ResNet', depth=18, base_channels=32)
    config.model.neck.type = 'FPN'
    config.test_cfg, config.test_dataloader = {}, dict(dataset=dict(type='CocoDataset', ann_file=''))
    (tmp_path / 'a.pth').touch()
    built, identities = [], []
    for name in ('scope', 'slim'):
        new = deepcopy(config)
        new.model.update({'type': 'SlimmableDetector', 'detector': 'RetinaNet', 'widths': (1.0, 0.5), name: 'detector'})
        identities.append(identity(new, tmp_path / 'a.pth'))
        with (
            nullcontext() if name == 'scope' else pytest.warns(DeprecationWarning, match='slim .* use scope') as warned
        ):
            model = MODELS.build(new.model)
        built.append({name for name, layer in model.named_modules() if getattr(layer, 'slim_out', False)})
    assert len(warned) == 1 and identities[0] == identities[1]
    assert built[0] == built[1] and any(name.startswith('bbox_head') for name in built[0])


def test_make_slimmable_with_the_former_name_of_the_scope():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
    with pytest.warns(DeprecationWarning, match='slim .* use scope') as warned:
        mmmutual.make_slimmable_(model, (1.0, 0.5), slim='backbone')
    assert warned[0].filename == __file__
    with pytest.raises(ValueError, match='scope and slim are the same argument'):
        mmmutual.make_slimmable_(model, (1.0, 0.5), scope='backbone', slim='backbone')


@pytest.mark.parametrize(
    ('tool', 'arguments', 'name', 'value'),
    [
        ('tools/analysis_tools/query_table.py', 'CONFIG CHECKPOINT --budget-flops 3e8', 'budget_multiply_adds', 3e8),
        ('demo/adaptive_demo.py', '--budget-flops 3e8', 'budget_multiply_adds', 3e8),
        ('tools/misc/make_mutual_config.py', 'CONFIG --slim detector', 'scope', 'detector'),
        ('tools/misc/check_mmdet_configs.py', '--slim detector', 'scope', 'detector'),
    ],
)
def test_tools_accept_former_options(tool, arguments, name, value, root, monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', [tool, *arguments.split()])
    assert getattr(runpy.run_path(str(root / tool))['parse_args'](), name) == value
    option = '--' + name.replace('_', '-')
    assert capsys.readouterr().err.strip().endswith(f'is deprecated and will be removed in mmmutual 0.3: use {option}')
