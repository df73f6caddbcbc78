import errno
import os
import re
import subprocess
import sys
from collections import namedtuple

import pytest

import download_coco
from tests.support.coco_server import JPEGS, JSONS, VAL, assert_whole, zip_of


def test_fresh_download(run, server, tmp_path, capsys):
    run()
    assert_whole(tmp_path, {**JPEGS, **JSONS})
    assert not list(tmp_path.glob('*.zip'))
    assert [(entry['path'], entry['range']) for entry in server.log] == [
        ('/annotations/annotations_trainval2017.zip', None),
        (VAL, None),
    ]

    run()
    assert len(server.log) == 2
    assert capsys.readouterr().out.count('already complete') == 2


def test_keep_zips_and_chosen_parts(run, server, tmp_path):
    server.files[f'/mirror{VAL}'] = server.files[VAL]
    run('--parts', 'val', '--keep-zips', '--base-url', f'{server.url}/mirror/')
    assert [entry['path'] for entry in server.log] == [f'/mirror{VAL}']
    assert_whole(tmp_path)
    assert (tmp_path / 'val2017.zip').read_bytes() == server.files[VAL][0]
    assert not (tmp_path / 'annotations').exists()


def test_zip_in_place_is_used(run, server, tmp_path):
    (tmp_path / 'val2017.zip').write_bytes(server.files[VAL][0])
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert server.log == []


@pytest.mark.parametrize('name', ['../evil.txt', 'val2017/../../evil.txt', '{tmp}/evil.txt'])
def test_member_outside_root_is_refused(run, server, tmp_path, name):
    name = name.format(tmp=tmp_path.parent)
    server.files[VAL] = zip_of({**JPEGS, name: b'evil'}), '"one"'
    with pytest.raises(SystemExit, match=f"'{re.escape(name)}' would be written outside"):
        run('--parts', 'val')
    assert not (tmp_path.parent / 'evil.txt').exists()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_link(run, tmp_path_factory, tmp_path):
    other_disk = tmp_path_factory.mktemp('disk')
    (tmp_path / 'val2017').symlink_to(other_disk)
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert len(list(other_disk.iterdir())) == len(JPEGS)


@pytest.mark.parametrize('kind', ['crc', 'cut'])
def test_damaged_zip(tmp_path, kind):
    path, (name, image) = tmp_path / 'val2017.zip', list(JPEGS.items())[2]
    data = zip_of(JPEGS)
    at = data.index(image)
    path.write_bytes(data[:at] + b'!' * 9 + data[at + 9 :] if kind == 'crc' else data[:-100])
    with pytest.raises(ValueError, match='val2017.zip is damaged: .*(CRC|not a zip).*removed'):
        download_coco.extract(path, tmp_path)
    assert not path.exists()
    assert not (tmp_path / name).exists()
    assert not list(tmp_path.rglob('*.tmp'))


def test_extraction_goes_on(tmp_path):
    path, names = tmp_path / 'val2017.zip', list(JPEGS)
    path.write_bytes(zip_of(JPEGS))
    (tmp_path / 'val2017').mkdir()
    (tmp_path / names[0]).write_bytes(b'x' * 2000)
    (tmp_path / names[1]).write_bytes(b'x' * 1999)
    download_coco.extract(path, tmp_path)
    assert (tmp_path / names[0]).read_bytes() == b'x' * 2000  # right size: left as it was
    assert_whole(tmp_path, {name: JPEGS[name] for name in names[1:]})


def test_disk_full_while_unpacking(run, server, tmp_path, monkeypatch):
    def fail(source, sink, length):
        sink.write(source.read(100))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(download_coco.shutil, 'copyfileobj', fail)
        with pytest.raises(SystemExit, match='No space left on device; check its permissions'):
            run('--parts', 'val')
    assert list((tmp_path / 'val2017').iterdir()) == []
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert len(server.log) == 1


Usage = namedtuple('Usage', 'total used free')


@pytest.mark.parametrize('args, need', [((), 25000), (('--keep-zips',), 26000), (('--parts', 'val'), 24000)])
def test_disk_space(run, server, tmp_path, monkeypatch, args, need):
    monkeypatch.setattr(download_coco.shutil, 'disk_usage', lambda path: Usage(10**6, 0, need - 1))
    with pytest.raises(SystemExit, match=f"--root '{tmp_path}' has 0.00 GB free, .*val need 0.00 GB; free some space"):
        run(*args)
    assert server.log == []
    monkeypatch.setattr(download_coco.shutil, 'disk_usage', lambda path: Usage(10**6, 0, need))
    run(*args)
    assert_whole(tmp_path)


def test_disk_space_counts_what_is_there(run, server, tmp_path, monkeypatch):
    (tmp_path / 'val2017.zip').write_bytes(server.files[VAL][0])
    (tmp_path / 'val2017').mkdir()
    (tmp_path / list(JPEGS)[0]).write_bytes(b'x' * 2000)
    need = 24000 - len(server.files[VAL][0]) - 2000
    monkeypatch.setattr(download_coco.shutil, 'disk_usage', lambda path: Usage(10**6, 0, need - 1))
    with pytest.raises(SystemExit, match='free some space'):
        run('--parts', 'val')
    monkeypatch.setattr(download_coco.shutil, 'disk_usage', lambda path: Usage(10**6, 0, need))
    run('--parts', 'val')
    assert_whole(tmp_path, {name: image for name, image in JPEGS.items() if name != list(JPEGS)[0]})
    assert server.log == []  # the zip in place was used


def test_count_of_images(run, tmp_path):
    with pytest.raises(SystemExit, match='val is not complete: 5 of 6 files .*val2017/\\*.jpg'):
        run('--parts', 'val', count=6)


def test_names_of_images(run, server, tmp_path):
    (tmp_path / 'annotations').mkdir()
    listing = tmp_path / 'annotations' / 'instances_val2017.json'
    listing.write_text('{"images": [{"file_name": "other.jpg"}]}')
    with pytest.raises(SystemExit, match='1 files are not in .*val2017/\\*.jpg, first other.jpg'):
        run('--parts', 'val')
    listing.write_text('no json')
    with pytest.raises(SystemExit, match='instances_val2017.json is not a COCO annotation file'):
        run('--parts', 'val')


def test_other_annotations_do_not_count(run, tmp_path):
    (tmp_path / 'annotations').mkdir()
    for name in 'stuff_train2017.json', 'stuff_val2017.json':
        (tmp_path / 'annotations' / name).write_text('{}')
    run('--parts', 'annotations')
    assert_whole(tmp_path, JSONS)


@pytest.mark.integration
def test_command_line(server, tmp_path):
    command = [
        sys.executable,
        download_coco.__file__,
        '--root',
        str(tmp_path),
        '--parts',
        'annotations',
        '--base-url',
        server.url,
    ]
    server.errors = [404]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert 'annotations_trainval2017.zip was answered 404' in result.stderr
    assert 'Traceback' not in result.stderr

    for name, data in JSONS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, 'annotations: already complete\n')
    assert len(server.log) == 1
