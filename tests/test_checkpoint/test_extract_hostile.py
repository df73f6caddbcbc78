"""Checkpoints that were made to deceive: reading their weights changes nothing, on the disk or in the process."""

import pickle
import stat
import tarfile
import zipfile
from io import BytesIO

import pytest
import torch
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

from mmmutual.checkpoint import extract_weights as module
from mmmutual.checkpoint.extract_weights import extract_weights
from mmmutual.upstream import PythonUnpickler, is_torchscript

STORAGE, REBUILD = b'ctorch.storage\nUntypedStorage\n', b'ctorch._utils\n_rebuild_tensor_v2\n'


def text(value: str) -> bytes:
    return b'X' + len(value).to_bytes(4, 'little') + value.encode()


def set_attributes(target: bytes, **attributes) -> bytes:
    """Opcodes that set attributes of what a look-up finds, and leave it on the stack."""
    return target + pickle.dumps((None, attributes), 2)[2:-1] + b'b'


def write_zip(path, program: bytes) -> None:
    """A checkpoint whose pickle is replaced by another one."""
    torch.save(dict(weight=torch.ones(1)), path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, 'w') as archive:
        for name, data in content.items():
            archive.writestr(name, b'\x80\x02' + program + b'.' if name.endswith('data.pkl') else data)


def write_legacy(path, program: bytes) -> None:
    start = b''.join(pickle.dumps(value, 2) for value in (MAGIC_NUMBER, PROTOCOL_VERSION, {}))
    path.write_bytes(start + b'\x80\x02' + program + b'.' + pickle.dumps([], 2))


@pytest.fixture
def clean():
    """Takes off what a test that fails has left on torch's functions and classes."""
    found = torch._utils._rebuild_tensor_v2, torch.UntypedStorage
    yield found
    for owner in found:
        for name in ('planted', 'dump_patches'):
            if name in vars(owner):
                delattr(owner, name)
    torch.UntypedStorage.__name__ = 'UntypedStorage'


@pytest.mark.parametrize('write', [write_zip, write_legacy])
@pytest.mark.parametrize('target', [STORAGE, REBUILD])
def test_functions_and_classes_stay(write, target, clean, tmp_path):
    write(tmp_path / 'bait.pth', set_attributes(target, planted=1))
    with pytest.raises(ValueError, match='no named tensors'):
        extract_weights(tmp_path / 'bait.pth')
    assert not any('planted' in vars(owner) for owner in clean)


def test_no_patch_of_a_source_file(clean, tmp_path, monkeypatch):
    """PyTorch writes the difference between the source in a file and the one here, under a name from the file."""
    monkeypatch.chdir(tmp_path)
    storage = set_attributes(STORAGE, dump_patches=True, __name__='written')
    write_legacy(tmp_path / 'bait.pth', b'(' + text('module') + storage + text('source') * 2 + b'tQ')
    with pytest.raises(ValueError, match='cannot be read'):
        extract_weights('bait.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['bait.pth']


def test_the_baits_work(clean):
    """Or the tests above would show nothing: pickle sets the attributes of whatever is looked up."""
    PythonUnpickler(BytesIO(b'\x80\x02' + set_attributes(REBUILD, planted=1) + b'.')).load()
    assert clean[0].planted == 1


def test_a_tar_archive_is_not_unpacked(tmp_path):
    """PyTorch unpacks it before it reads it; a link in it would change the mode of the file that it points to."""
    victim = tmp_path / 'victim'
    victim.touch(mode=0o600)
    with tarfile.open(tmp_path / 'bait.pth', 'w') as archive:
        link = tarfile.TarInfo('storages')
        link.type, link.linkname, link.mode = tarfile.LNKTYPE, str(victim), 0o777
        archive.addfile(link)
    with pytest.raises(ValueError, match='bait.pth cannot be read .*it is a tar archive. Unpack it'):
        extract_weights(tmp_path / 'bait.pth')
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


def test_a_program_under_any_folder(tmp_path):
    """The reader decides that runs the program: it leaves out the first folder, whatever its name."""
    with zipfile.ZipFile(tmp_path / 'bait.pth', 'w') as archive:
        for name in ('data.pkl', 'version', 'constants.pkl'):
            archive.writestr(f'any/{name}', b'3\n')
    assert is_torchscript(tmp_path / 'bait.pth')
    with pytest.raises(ValueError, match='a TorchScript program'):
        extract_weights(tmp_path / 'bait.pth')


def test_it_holds_itself(tmp_path):
    content = dict(weight=torch.ones(1), epoch=3)
    content['model'] = content
    torch.save(content, tmp_path / 'circle.pth')
    with pytest.raises(ValueError, match='no named tensors'):
        extract_weights(tmp_path / 'circle.pth')


@pytest.mark.parametrize('protocol', range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_protocols(protocol, tmp_path):
    torch.save(dict(model=dict(a=torch.ones(2)), tags={'x'}), tmp_path / 'theirs.pth', pickle_protocol=protocol)
    assert extract_weights(tmp_path / 'theirs.pth')['a'].tolist() == [1, 1]


def test_kinds_of_tensors(tmp_path, monkeypatch):
    """Entries that are not read are named."""
    said = []
    monkeypatch.setattr(module, 'print_log', lambda message, **_: said.append(message))
    weight = torch.arange(6.0).view(2, 3).t()
    kept = dict(strided=weight, tied=weight, small=weight.to(torch.float8_e4m3fn), code=torch.ones(2).to(torch.uint16))
    torch.save(dict(kept, sparse=weight.to_sparse(), version='1.0'), tmp_path / 'theirs.pth')
    read = extract_weights(tmp_path / 'theirs.pth')
    assert list(read) == list(kept)
    assert all(torch.equal(read[name].float(), value.float()) for name, value in kept.items())
    assert len(said) == 1 and said[0].endswith('cannot be read as tensors are left out: sparse, version')
