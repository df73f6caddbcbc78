"""Query tables whose sub-networks differ in their decoder layers."""

import csv
import json

import pytest

from mmmutual.engine import Subnet
from mmmutual.evaluation import MeasuredSubnet, QueryTable, format_table
from mmmutual.evaluation.query_report import write_query_report
from tests.support.inferencers import table

SUBNETS = tuple(
    MeasuredSubnet(width, 1.0, 100 * number, 1, {'box mAP': width * number / 10}, 10.0 * number, 11.0 * number, number)
    for width in (1.0, 0.5)
    for number in (6, 2)
)
TABLE = QueryTable(SUBNETS, table().context)


def test_saved_and_loaded(tmp_path):
    TABLE.save(tmp_path / 'table.json')
    assert QueryTable.load(tmp_path / 'table.json') == TABLE
    assert [row['decoder_layers'] for row in TABLE.rows()] == [6, 2, 6, 2]
    for path in write_query_report(TABLE, tmp_path / 'table.json'):
        assert path.is_file()
    rows = csv.DictReader((tmp_path / 'table.csv').open())
    assert list(rows.fieldnames)[:4] == ['width', 'scale', 'decoder_layers', 'multiply_adds']
    assert 'decoder layers' in format_table(TABLE.rows()).splitlines()[1]


def test_a_file_without_decoder_layers_is_written_as_before(tmp_path):
    table().save(tmp_path / 'table.json')
    content = json.loads((tmp_path / 'table.json').read_text())
    assert not any('decoder_layers' in subnet for subnet in content['subnets'])
    assert QueryTable.load(tmp_path / 'table.json').subnets[0].decoder_layers is None


@pytest.mark.parametrize('value', [0, 2.5, True, '6'])
def test_a_wrong_number_is_refused(tmp_path, value):
    TABLE.save(tmp_path / 'table.json')
    content = json.loads((tmp_path / 'table.json').read_text())
    content['subnets'][1]['decoder_layers'] = value
    (tmp_path / 'table.json').write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r'subnets\[1\].decoder_layers" should be null or a whole number of at least 1'
    ):
        QueryTable.load(tmp_path / 'table.json')


def test_choices():
    assert TABLE.best(budget_ms=30).key == Subnet(1.0, 1.0, 2)
    assert TABLE.subnet(0.5, 1.0, 2) is SUBNETS[3] and TABLE.subnet(0.5, 1.0) is SUBNETS[2]
    with pytest.raises(ValueError, match='no width 1 at scale 1 with 4 decoder layers; it has 1 at scale 1 with 6'):
        TABLE.subnet(1.0, 1.0, 4)
    with pytest.raises(ValueError, match='width 1 at scale 1 with 6 decoder layers occurs more than once'):
        QueryTable((*SUBNETS, SUBNETS[0]), TABLE.context)
    assert str(SUBNETS[1]) == 'width 1 at scale 1 with 2 decoder layers: 200 multiply-adds, 20.0 ms, box mAP 0.200'


def test_names_of_a_sub_network():
    assert (str(Subnet(0.5, 1.0, 1)), str(Subnet(0.5))) == ('w0.5_s1_d1', 'w0.5_s1')
    assert Subnet(0.5, 1.0, 1).description == 'width 0.5 at scale 1 with 1 decoder layer'
