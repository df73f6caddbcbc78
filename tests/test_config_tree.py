"""The walk over nested configs."""

from mmdet.models import ResNet
from mmengine.config import ConfigDict

from mmmutual.config_tree import nested_dicts, place, rebuilt, type_name, walk

NESTED = ConfigDict(head=[dict(type='mmdet.Head', size=(3, 4)), None], classes=('a', 'b'))


def test_every_value_is_found_outermost_first():
    found = {place(keys): value for keys, value in walk(NESTED)}
    assert list(found) == [
        '', 'head', 'head[0]', 'head[0].type', 'head[0].size', 'head[0].size[0]', 'head[0].size[1]', 'head[1]',
        'classes', 'classes[0]', 'classes[1]',
    ]  # fmt: skip
    assert found['head[0].size[1]'] == 4 and found['head[1]'] is None and found[''] is NESTED


def test_what_is_skipped_is_left_out_with_its_content():
    assert [place(keys) for keys, _ in walk(NESTED, skip=('head',))] == ['', 'classes', 'classes[0]', 'classes[1]']


def test_keys_can_start_at_a_place():
    assert place(next(walk({}, keys=('model', 'head', 2)))[0]) == 'model.head[2]'


def test_a_dict_may_change_before_its_content_is_walked():
    node = dict(part=dict(type='old'))
    for part in nested_dicts(node):
        if 'part' in part:
            part['part'] = dict(type='new')
    assert list(nested_dicts(node)) == [node, dict(type='new')]


def test_a_copy_is_changed_outermost_first():
    def change(value):
        return {**value, 'type': 'New', 'more': [1]} if isinstance(value, dict) and 'type' in value else value

    copied = rebuilt(NESTED, change)
    assert copied == dict(head=[dict(type='New', size=(3, 4), more=[1]), None], classes=('a', 'b'))
    assert type(copied) is dict and NESTED['head'][0]['type'] == 'mmdet.Head'


def test_a_type_is_a_name_or_a_class():
    assert type_name(dict(type='mmdet.ResNet')) == 'ResNet' == type_name(dict(type=ResNet))
    assert type_name({}) == ''
