import errno
import hashlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'misc' / 'download_coco.py'
VAL = '/zips/val2017.zip'
JPEGS = {f'val2017/{i:012d}.jpg': os.urandom(2000) for i in range(1, 6)}
JSONS = {
    'annotations/instances_train2017.json': b'{"images": []}',
    'annotations/instances_val2017.json': json.dumps(
        {'images': [{'file_name': name.split('/')[1]} for name in JPEGS]}
    ).encode(),
}


def zip_of(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:  # stored, as the images of COCO are
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, asked = self.server, self.headers
        entry = {'path': self.path, 'range': asked['Range'], 'if_range': asked['If-Range']}
        server.log.append(entry)
        if server.errors:
            return self.send_error(server.errors.pop(0))
        if self.path not in server.files:
            return self.send_error(404)
        data, tag = server.files[self.path]
        start, end, status = 0, len(data), 200
        fresh = not server.heeds_if_range or asked['If-Range'] in (None, tag)
        if asked['Range'] and server.ranges and fresh:
            start, status = int(re.fullmatch(r'bytes=(\d+)-', asked['Range'])[1]), 206
            start -= server.shift
            end = min(end, start + server.longest_range)
            if start >= len(data):
                entry.update(status=416, sent=0)
                return self.send_error(416)
        body = data[start:end]
        cut = server.cuts.pop(0) if server.cuts else None
        entry.update(status=status, sent=len(body[:cut]))
        self.send_response(status)
        self.send_header('Content-Length', str(len(body)))
        if status == 206:
            self.send_header('Content-Range', f'bytes {start}-{end - 1}/{len(data)}')
        if tag:
            self.send_header('ETag', tag)
        self.end_headers()
        self.wfile.write(body[:cut])
        if server.stall:
            self.wfile.flush()
            server.stall.wait(20)


class Server(ThreadingHTTPServer):
    """Serves ``files`` (path to bytes and ETag); logs range, status and bytes per request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files, self.log = {}, []
        self.ranges, self.heeds_if_range, self.longest_range = True, True, 1 << 40
        self.cuts, self.errors = [], []  # one per request: bytes to stop after; status to answer
        self.shift, self.stall = 0, None
        self.url = f'http://127.0.0.1:{self.server_port}'


@pytest.fixture
def tool(monkeypatch):
    spec = importlib.util.spec_from_file_location('download_coco', TOOL)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, 'download_coco', module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'BACKOFF', 0)
    return module


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        server.files[VAL] = zip_of(JPEGS), '"one"'
        server.files['/annotations/annotations_trainval2017.zip'] = zip_of(JSONS), '"one"'
        yield server
        server.shutdown()


@pytest.fixture
def run(tool, server, tmp_path):
    """Runs main on tiny parts whose MD5s are those of what the server has."""

    def run(*args, md5=None, count=5):
        whole = {path: hashlib.md5(data).hexdigest() for path, (data, _) in server.files.items()}
        parts = (
            tool.Part(
                'annotations',
                'annotations/annotations_trainval2017.zip',
                whole['/annotations/annotations_trainval2017.zip'],
                1000,
                1000,
                'annotations/*2017.json',
                2,
                names=('instances_train2017.json', 'instances_val2017.json'),
            ),
            tool.Part(
                'val',
                'zips/val2017.zip',
                md5 or whole[VAL],
                12000,
                12000,
                'val2017/*.jpg',
                count,
                listing='annotations/instances_val2017.json',
            ),
        )
        tool.main(['--root', str(tmp_path), '--base-url', server.url, *args], parts)

    return run


def assert_whole(root, files=JPEGS):
    assert {name: (root / name).read_bytes() for name in files} == files
    assert not [path for path in root.rglob('*') if path.suffix in ('.part', '.tag', '.tmp')]


def leave_partial(root, data, tag='"one"'):
    (root / 'val2017.zip.part').write_bytes(data)
    (root / 'val2017.zip.part.tag').write_text(tag)


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


def test_resume_asks_only_for_the_rest(run, server, tmp_path):
    data = server.files[VAL][0]
    leave_partial(tmp_path, data[:3000])
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert server.log == [
        {'path': VAL, 'range': 'bytes=3000-', 'if_range': '"one"', 'status': 206, 'sent': len(data) - 3000}
    ]


def test_resume_without_tag(run, server, tmp_path):
    (tmp_path / 'val2017.zip.part').write_bytes(server.files[VAL][0][:3000])
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert [entry['status'] for entry in server.log] == [206]


def test_killed_run_goes_on(server, tmp_path):
    data = zip_of({'val2017/1.jpg': os.urandom(3_000_000)})
    server.files[VAL] = data, '"big"'
    server.cuts, server.stall = [2_500_000], threading.Event()
    script = tmp_path / 'run.py'
    script.write_text(f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location('tool', {str(TOOL)!r})
tool = sys.modules['tool'] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
part = tool.Part('val', 'zips/val2017.zip', {hashlib.md5(data).hexdigest()!r}, 1, 1,
                 'val2017/*.jpg', 1)
tool.main(['--root', {str(tmp_path)!r}, '--base-url', {server.url!r}], (part, ))
""")
    first = subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL)
    part = tmp_path / 'val2017.zip.part'
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    first.kill()
    first.wait()
    server.stall.set()
    have = part.stat().st_size
    assert 0 < have < len(data)

    assert subprocess.run([sys.executable, script], stderr=subprocess.DEVNULL).returncode == 0
    assert (tmp_path / 'val2017' / '1.jpg').stat().st_size == 3_000_000
    assert server.log[1]['range'] == f'bytes={have}-'
    assert server.log[1]['sent'] == len(data) - have


def test_server_without_range(run, server, tmp_path):
    server.ranges = False
    leave_partial(tmp_path, server.files[VAL][0][:3000])
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert [entry['status'] for entry in server.log] == [200]


def test_connection_dropped_halfway(run, server, tmp_path, capsys):
    server.cuts = [4000, 1000]
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert [(entry['range'], entry['if_range']) for entry in server.log] == [
        (None, None),
        ('bytes=4000-', '"one"'),
        ('bytes=5000-', '"one"'),
    ]
    assert f'4000 of {len(server.files[VAL][0])} bytes arrived' in capsys.readouterr().err


def test_more_drops_than_retries_while_bytes_come(run, server, tmp_path, tool):
    server.cuts = [500] * (2 * tool.RETRIES)
    run('--parts', 'val')
    assert_whole(tmp_path)


def test_drops_without_progress_end_and_can_be_resumed(run, server, tmp_path, tool):
    server.cuts = [4000] + [0] * tool.RETRIES
    with pytest.raises(SystemExit, match='could not be fetched .*to continue from byte 4000'):
        run('--parts', 'val')
    assert len(server.log) == tool.RETRIES + 1
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert server.log[-1]['range'] == 'bytes=4000-'


def test_endless_restarts_end(run, server, tool):
    server.ranges = False
    server.cuts = [4000, 3000] * 25
    with pytest.raises(SystemExit, match='could not be fetched'):
        run('--parts', 'val')
    assert len(server.log) == tool.RETRIES + 1


def test_waits_grow(run, server, tool, monkeypatch):
    waits = []
    monkeypatch.setattr(tool, 'BACKOFF', 1)
    monkeypatch.setattr(tool.time, 'sleep', waits.append)
    server.errors = [503, 500, 502]
    run('--parts', 'val')
    assert waits == [1, 2, 4]


def test_short_range_is_no_end(run, server, tmp_path):
    server.longest_range = 4000
    leave_partial(tmp_path, server.files[VAL][0][:100])
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert [entry['range'] for entry in server.log[:2]] == ['bytes=100-', 'bytes=4100-']


def test_other_range_than_asked_for(run, server, tmp_path):
    server.shift = 10
    leave_partial(tmp_path, server.files[VAL][0][:3000])
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert [entry['status'] for entry in server.log] == [206, 200]


@pytest.mark.parametrize('heeds_if_range, statuses', [(True, [200]), (False, [206, 200])])
def test_file_changed_on_the_server(run, server, tmp_path, heeds_if_range, statuses):
    server.heeds_if_range = heeds_if_range
    leave_partial(tmp_path, b'x' * 3000, tag='"old"')
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert [entry['status'] for entry in server.log] == statuses


def test_weak_etag_is_not_sent_back(run, server, tmp_path):
    server.files[VAL] = server.files[VAL][0], 'W/"weak"'
    server.cuts = [4000]
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert [entry['if_range'] for entry in server.log] == [None, None]
    assert server.log[1]['status'] == 206


def test_complete_part_needs_no_bytes(run, server, tmp_path):
    leave_partial(tmp_path, server.files[VAL][0])
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert [(entry['status'], entry['sent']) for entry in server.log] == [(416, 0)]


def test_too_long_part_is_fetched_anew(run, server, tmp_path):
    leave_partial(tmp_path, server.files[VAL][0] + b'more')
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert [entry['status'] for entry in server.log] == [416, 200]


@pytest.mark.parametrize('in_place', [False, True])
def test_wrong_md5(run, server, tmp_path, in_place):
    good = server.files[VAL][0]
    bad = good[:50] + bytes([good[50] ^ 1]) + good[51:]
    if in_place:
        (tmp_path / 'val2017.zip').write_bytes(bad)
    else:
        server.files[VAL] = bad, '"one"'
    want, got = hashlib.md5(good).hexdigest(), hashlib.md5(bad).hexdigest()
    with pytest.raises(
        SystemExit,
        match=f'val2017.zip.* is damaged: its MD5 is {got}, must be {want}; it was removed, run the same command again',
    ):
        run('--parts', 'val', md5=want)
    assert list(tmp_path.iterdir()) == []

    server.files[VAL] = good, '"two"'
    run('--parts', 'val')
    assert_whole(tmp_path)


def test_not_found_is_not_tried_again(run, server):
    server.errors = [404] * 9
    with pytest.raises(SystemExit, match=re.escape(f'{server.url}{VAL} was answered 404')):
        run('--parts', 'val')
    assert len(server.log) == 1


def test_unreachable_host(run, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(SystemExit, match='could not be fetched .*check the network and --base'):
        run('--parts', 'val')


def test_base_url_without_scheme(run):
    with pytest.raises(SystemExit, match="--base-url 'mirror' must start with http://"):
        run('--base-url', 'mirror')


def test_root_is_a_file(run, tmp_path):
    (tmp_path / 'taken').touch()
    with pytest.raises(SystemExit, match="--root '.*taken' could not be written"):
        run('--root', str(tmp_path / 'taken'))


@pytest.mark.parametrize('name', ['../evil.txt', 'val2017/../../evil.txt', '{tmp}/evil.txt'])
def test_member_outside_root_is_refused(run, server, tmp_path, name):
    name = name.format(tmp=tmp_path.parent)
    server.files[VAL] = zip_of({**JPEGS, name: b'evil'}), '"one"'
    with pytest.raises(SystemExit, match=f"'{re.escape(name)}' would land outside"):
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
def test_damaged_zip(tool, tmp_path, kind):
    path, (name, image) = tmp_path / 'val2017.zip', list(JPEGS.items())[2]
    data = zip_of(JPEGS)
    at = data.index(image)
    path.write_bytes(data[:at] + b'!' * 9 + data[at + 9 :] if kind == 'crc' else data[:-100])
    with pytest.raises(ValueError, match='val2017.zip is damaged: .*(CRC|not a zip).*removed'):
        tool.extract(path, tmp_path)
    assert not path.exists()
    assert not (tmp_path / name).exists()
    assert not list(tmp_path.rglob('*.tmp'))


def test_extraction_goes_on(tool, tmp_path):
    path, names = tmp_path / 'val2017.zip', list(JPEGS)
    path.write_bytes(zip_of(JPEGS))
    (tmp_path / 'val2017').mkdir()
    (tmp_path / names[0]).write_bytes(b'x' * 2000)
    (tmp_path / names[1]).write_bytes(b'x' * 1999)
    tool.extract(path, tmp_path)
    assert (tmp_path / names[0]).read_bytes() == b'x' * 2000  # right size: left as it was
    assert_whole(tmp_path, {name: JPEGS[name] for name in names[1:]})


def test_disk_full_while_unpacking(run, tool, server, tmp_path, monkeypatch):
    def fail(source, sink, length):
        sink.write(source.read(100))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(tool.shutil, 'copyfileobj', fail)
        with pytest.raises(SystemExit, match='No space left on device; see to its permissions'):
            run('--parts', 'val')
    assert list((tmp_path / 'val2017').iterdir()) == []
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert len(server.log) == 1


Usage = namedtuple('Usage', 'total used free')


@pytest.mark.parametrize('args, need', [((), 25000), (('--keep-zips',), 26000), (('--parts', 'val'), 24000)])
def test_disk_space(run, tool, server, tmp_path, monkeypatch, args, need):
    monkeypatch.setattr(tool.shutil, 'disk_usage', lambda path: Usage(10**6, 0, need - 1))
    with pytest.raises(SystemExit, match=f"--root '{tmp_path}' has 0.00 GB free, .*val need 0.00 GB; free some space"):
        run(*args)
    assert server.log == []
    monkeypatch.setattr(tool.shutil, 'disk_usage', lambda path: Usage(10**6, 0, need))
    run(*args)


def test_disk_space_counts_what_is_there(run, tool, server, tmp_path, monkeypatch):
    (tmp_path / 'val2017.zip').write_bytes(server.files[VAL][0])
    (tmp_path / 'val2017').mkdir()
    (tmp_path / list(JPEGS)[0]).write_bytes(b'x' * 2000)
    need = 24000 - len(server.files[VAL][0]) - 2000
    monkeypatch.setattr(tool.shutil, 'disk_usage', lambda path: Usage(10**6, 0, need))
    run('--parts', 'val')


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


def test_interrupt(run, tool, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(tool, 'receive', interrupt)
    with pytest.raises(SystemExit, match='stopped; run the same command again to continue'):
        run()


def test_command_line(server, tmp_path):
    command = [sys.executable, str(TOOL), '--root', str(tmp_path), '--parts', 'annotations', '--base-url', server.url]
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
