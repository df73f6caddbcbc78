"""Changes of mmcv's sources before the compilation, which `make install` tests."""

import pytest

import build_mmcv


def test_most_sources_become_two_files(tmp_path):
    sources = tmp_path / build_mmcv.SOURCES
    (sources / 'cpu').mkdir(parents=True)
    for name in ('nms.cpp', 'focal_loss.cpp', 'pybind.cpp', 'cpu/nms.cpp', 'cpu/psamask.cpp'):
        (sources / name).write_text(name)
    build_mmcv.join_sources(tmp_path)
    assert {str(path.relative_to(sources)) for path in sources.rglob('*.cpp')} == {
        'joined.cpp', 'joined/nms.cpp', 'joined/focal_loss.cpp', 'pybind.cpp',
        'cpu/joined.cpp', 'cpu/joined/nms.cpp', 'cpu/psamask.cpp',
    }  # fmt: skip
    assert (sources / 'joined.cpp').read_text() == '#include "joined/focal_loss.cpp"\n#include "joined/nms.cpp"\n'


@pytest.mark.parametrize('stack', ['onedl', 'openmmlab'])
def test_both_stacks_name_an_mmcv(root, stack):
    assert 'mmcv==' in build_mmcv.mmcv_requirement(root / 'requirements' / f'{stack}.txt')


def test_a_file_without_mmcv_is_refused(root):
    with pytest.raises(ValueError, match=r'torch.txt has no line for mmcv with a version, such as onedl-mmcv==2.3.6'):
        build_mmcv.mmcv_requirement(root / 'requirements' / 'torch.txt')
