"""Errors for an incomplete stack, and safe loading of the files that MMEngine saves."""

import importlib
import io
import re
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from torch import nn

import mmmutual
from mmmutual.environment import (
    PIECES,
    check_stack,
    find_mmpretrain,
    import_without_notices,
    installed_versions,
    operators_advice,
    optimised,
    register_safe_globals,
)


@pytest.fixture
def nothing_registered():
    """Classes that PyTorch's safe loader allows are restored at the end."""
    registered = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(registered)


def saved(value, **replaced: str) -> io.BytesIO:
    """A file in the old, uncompressed format of ``torch.save``, with some bytes replaced."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    data = buffer.getvalue()
    for old, new in replaced.items():
        data = data.replace(old.encode(), new.encode())
    return io.BytesIO(data)


def history() -> HistoryBuffer:
    buffer = HistoryBuffer([1.5, 2.5], [1, 1], max_length=10)
    buffer.update(3.5)
    return buffer


def assert_reads_history() -> None:
    read = torch.load(saved(history()), weights_only=True)
    assert [values.tolist() for values in read.data] == [[1.5, 2.5, 3.5], [1, 1, 1]]
    assert (read.mean(), read.current(), read.statistics('max')) == (2.5, 3.5, 3.5)


class TestStack:
    def test_is_whole(self):
        assert check_stack() is None
        assert set(PIECES) <= set(sys.modules)

    @pytest.mark.parametrize('name', ['no_such_piece', 'mmengine.no_such_piece'])
    def test_missing_piece(self, name):
        with pytest.raises(
            ImportError,
            match=(
                rf"^mmmutual needs {name}, which does not import here \(No module named '{name}'\)\. `make install` .*"
                r"see 'Installation' in the README: `pip install -r requirements/onedl.txt`$"
            ),
        ):
            check_stack(('mmengine', name))

    @pytest.mark.parametrize(
        'source, reason',
        [
            (
                "raise AssertionError('MMCV==1 is used but incompatible.\\nPlease install')",
                'MMCV==1 is used but incompatible.',
            ),
            ('assert 1 == 2', 'AssertionError'),
            (
                "raise RuntimeError('operator torchvision::nms does not exist')",
                'operator torchvision::nms does not exist',
            ),
            ("raise ImportError('libcudart.so: cannot open shared object')", 'libcudart.so: cannot open shared object'),
        ],
    )
    def test_piece_that_does_not_fit(self, source, reason, tmp_path, monkeypatch):
        """MMDetection asserts the version of MMCV, a compiled extension raises a RuntimeError."""
        (tmp_path / 'unfit_piece.py').write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(
            ImportError,
            match=(
                f'^mmmutual needs unfit_piece, which does not import here {re.escape(f"({reason})")}. `make install` '
            ),
        ):
            check_stack(('unfit_piece',))

    @pytest.mark.usefixtures('without_mmpretrain')
    def test_mmpretrain_missing(self):
        with pytest.raises(
            ImportError, match='a classifier needs mmpretrain, which does not import.*`make pretrain` installs'
        ):
            find_mmpretrain()

    def test_first_piece_is_named(self):
        with pytest.raises(ImportError, match='mmmutual needs no_piece_a,'):
            check_stack(('no_piece_a', 'no_piece_b'))


@pytest.mark.usefixtures('nothing_registered')
class TestSafeLoading:
    def test_history_buffers_after_mmmutual_is_imported(self):
        with pytest.raises(Exception, match='HistoryBuffer was not an allowed global'):
            assert_reads_history()
        importlib.reload(mmmutual)
        assert_reads_history()

    def test_history_buffers_after_mmengine_loaded_a_checkpoint(self, tmp_path):
        """OneDL's MMEngine unregisters the classes it allows."""
        register_safe_globals()
        torch.save(nn.Linear(1, 1).state_dict(), tmp_path / 'weights.pth')
        load_checkpoint(nn.Linear(1, 1), str(tmp_path / 'weights.pth'))
        assert_reads_history()

    @pytest.mark.parametrize('module', ['numpy.core.multiarray', 'numpy._core.multiarray'])
    def test_of_either_numpy(self, module):
        register_safe_globals()
        data = saved((np.arange(3), np.float32(2)), **{f'c{np.zeros(1).__reduce__()[0].__module__}': f'c{module}'})
        assert module.encode() in data.getvalue()
        array, scalar = torch.load(data, weights_only=True)
        assert (array.tolist(), scalar) == ([0, 1, 2], 2)

    @pytest.mark.parametrize(
        'dtype',
        [
            bool,
            np.int8,
            np.uint8,
            np.int16,
            np.uint16,
            np.int32,
            np.uint32,
            np.int64,
            np.uint64,
            np.float16,
            np.float32,
            np.float64,
        ],
    )
    def test_numbers(self, dtype):
        register_safe_globals()
        array, scalar = torch.load(saved((np.ones(3, dtype), np.ones(3, dtype)[0])), weights_only=True)
        assert array.dtype == scalar.dtype == dtype
        assert array.tolist() == [scalar] * 3

    def test_registering_twice_adds_nothing(self):
        register_safe_globals()
        registered = set(torch.serialization.get_safe_globals())
        register_safe_globals()
        assert set(torch.serialization.get_safe_globals()) == registered


SIZES = '#include <vector>\nlong sum(const std::vector<long>& all) { return all.size() > 2 ? all[2] : all.size(); }\n'


@pytest.mark.integration
@pytest.mark.skipif(shutil.which('c++') is None, reason='needs a C++ compiler')
@pytest.mark.parametrize(
    ('flags', 'wanted'), [('-O0', False), ('', False), ('-O1', True), ('-O2', True), ('-O3', True)]
)
def test_a_library_compiled_without_optimisation_is_noticed(tmp_path, flags, wanted):
    (tmp_path / 'sizes.cpp').write_text(SIZES)
    library = tmp_path / 'sizes.so'
    subprocess.run(
        ['c++', *flags.split(), '-fPIC', '-shared', '-o', library, tmp_path / 'sizes.cpp'], check=True, timeout=60
    )
    assert optimised(library) is wanted


def test_slow_operators_come_with_the_command_that_compiles_them_again(monkeypatch, capsys):
    monkeypatch.setattr('mmmutual.environment.optimised', lambda library: False)
    runpy.run_module('mmmutual', run_name='__main__')
    said = capsys.readouterr().out
    assert "warning: mmcv's operators were compiled without optimisation" in said
    assert re.search(r'CFLAGS="-O2 -g0" .* pip install --force-reinstall .* (onedl-)?mmcv==\d', said)


def test_the_operators_of_this_environment_are_optimised():
    advice = operators_advice()
    assert advice is None, advice
    assert 'torch' in installed_versions()


@pytest.mark.integration
def test_mmdets_notices_do_not_open_the_output_of_a_program():
    command = 'import mmmutual; import mmdet.datasets, mmdet.evaluation; print("ready")'
    result = subprocess.run([sys.executable, '-c', command], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (0, 'ready\n')
    assert 'faster_coco_eval' not in result.stderr


def test_other_words_of_a_module_are_passed_on(monkeypatch, capsys):
    def talk(name: str) -> None:
        print('Could not import OneDL. Skipping OneDL datasets.\nsomething else')

    monkeypatch.setattr('mmmutual.environment.import_module', talk)
    import_without_notices()
    assert capsys.readouterr().out == 'something else\n'


def test_no_tool_imports_what_gives_notices_before_mmmutual(root):
    """mmdet's optional packages are not for a tool to talk of; mmmutual imports the modules that do so in silence."""
    noisy = ('mmdet.apis', 'mmdet.datasets', 'mmdet.evaluation', 'mmdet.models')
    for path in [*root.glob('tools/**/*.py'), *root.glob('demo/*.py')]:
        for line in path.read_text().splitlines():
            if line.startswith(('from mmmutual', 'import mmmutual')):
                break
            assert not line.startswith(tuple(f'from {module}' for module in noisy)), f'{path}: {line}'
