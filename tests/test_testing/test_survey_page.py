"""The page of the docs that lists one config of each folder of mmdet, and the results behind it."""

import json
import re

from mmmutual.slimming import SCOPES
from mmmutual.testing import format_page

RAW = r'^\w+(Error|Exception): |the stock detector itself fails|differ from those of the stock detector'


def row(config, **reasons):
    numbers = dict(share=0.416, remaining=0.672)
    scopes = {scope: dict(reason=reasons.get(scope, ''), **numbers) for scope in SCOPES}
    return dict(config=f'mmdet::{config}', detector='RetinaNet', backbone='ResNet', scopes=scopes)


def test_the_table_counts_its_rows():
    folders = {
        'two': row('two/two_r50.py', backbone='a | b', detector='X consists of several models'),
        'one': row('one/one_r50.py'),
        'six': row('six/six_r50.py', detector='no'),
        'ten': row('ten/ten_r50.py', backbone='no', detector='no'),
    }
    lines = format_page(dict(versions={'mmdet': '3.5.1'}, folders=folders)).splitlines()
    assert '**2 of 4 pass in scope `backbone`, and 1 in scope `detector`.**' in lines
    assert any(line.startswith('1 of the others have configs of several models only') for line in lines)
    assert 'Checked with mmdet 3.5.1.' in lines
    assert lines[-4:] == [
        '| one | `one_r50.py` | ResNet | 42 % | 67 % | 42 % | 67 % | passes |',
        '| six | `six_r50.py` | ResNet | 42 % | 67 % |  |  | `backbone`: passes; `detector`: no |',
        '| ten | `ten_r50.py` | ResNet |  |  |  |  | no |',
        '| two | `two_r50.py` | ResNet |  |  |  |  | `backbone`: a \\| b; `detector`: X consists of several models |',
    ]


def test_the_page_shows_the_results_that_are_kept(root):
    results = json.loads((root / 'benchmarks' / 'results' / 'survey' / 'mmdet_configs.json').read_text())
    assert (root / 'docs' / 'supported_configs.md').read_text() == format_page(results)
    reasons = [found['reason'] for row in results['folders'].values() for found in row['scopes'].values()]
    assert not [reason for reason in reasons if re.search(RAW, reason)]
