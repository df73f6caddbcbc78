"""A download continues after each way in which a connection or a server can fail."""

import hashlib
import os
import re
import subprocess
import sys
import threading
import time

import pytest

import resumable_download
from tests.support.coco_server import VAL, assert_whole, leave_partial, zip_of


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


@pytest.mark.integration
def test_killed_run_goes_on(server, root, tmp_path):
    data = zip_of({'val2017/1.jpg': os.urandom(3_000_000)})
    server.files[VAL] = data, '"big"'
    server.cuts, server.stall = [2_500_000], threading.Event()
    script = tmp_path / 'run.py'
    script.write_text(f"""
from download_coco import Part, main
part = Part('val', 'zips/val2017.zip', {hashlib.md5(data).hexdigest()!r}, 1, 1,
            'val2017/*.jpg', 1)
main(['--root', {str(tmp_path)!r}, '--base-url', {server.url!r}], (part, ))
""")
    started = dict(stderr=subprocess.DEVNULL, env={**os.environ, 'PYTHONPATH': str(root / 'tools' / 'misc')})
    first = subprocess.Popen([sys.executable, script], **started)
    part = tmp_path / 'val2017.zip.part'
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    first.kill()
    first.wait()
    server.stall.set()
    have = part.stat().st_size
    assert 0 < have < len(data)

    assert subprocess.run([sys.executable, script], **started).returncode == 0
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


def test_more_drops_than_retries_while_bytes_come(run, server, tmp_path):
    server.cuts = [500] * (2 * resumable_download.RETRIES)
    run('--parts', 'val')
    assert_whole(tmp_path)


def test_drops_without_progress_end_and_can_be_resumed(run, server, tmp_path):
    server.cuts = [4000] + [0] * resumable_download.RETRIES
    with pytest.raises(SystemExit, match='could not be fetched .*to continue from byte 4000'):
        run('--parts', 'val')
    assert len(server.log) == resumable_download.RETRIES + 1
    run('--parts', 'val')
    assert_whole(tmp_path)
    assert server.log[-1]['range'] == 'bytes=4000-'


def test_endless_restarts_end(run, server):
    server.ranges = False
    server.cuts = [4000, 3000] * 25
    with pytest.raises(SystemExit, match='could not be fetched'):
        run('--parts', 'val')
    assert len(server.log) == resumable_download.RETRIES + 1


def test_waits_grow(run, server, monkeypatch):
    waits = []
    monkeypatch.setattr(resumable_download, 'BACKOFF', 1)
    monkeypatch.setattr(resumable_download.time, 'sleep', waits.append)
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


def test_interrupt(run, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(resumable_download, 'receive', interrupt)
    with pytest.raises(SystemExit, match='stopped; run the same command again to continue'):
        run()
