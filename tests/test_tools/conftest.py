"""A server of tiny zips of COCO, and the tool that downloads them."""

import hashlib
import threading

import pytest

import download_coco
import resumable_download
from tests.support.coco_server import JPEGS, JSONS, VAL, Server, zip_of


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
def run(server, tmp_path, monkeypatch):
    """Runs main on tiny parts whose MD5s are those of what the server has, without a wait between tries."""
    monkeypatch.setattr(resumable_download, 'BACKOFF', 0)

    def run(*args, md5=None, count=5):
        whole = {path: hashlib.md5(data).hexdigest() for path, (data, _) in server.files.items()}
        parts = (
            download_coco.Part(
                'annotations',
                'annotations/annotations_trainval2017.zip',
                whole['/annotations/annotations_trainval2017.zip'],
                1000,
                1000,
                'annotations/*2017.json',
                2,
                names=('instances_train2017.json', 'instances_val2017.json'),
            ),
            download_coco.Part(
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
        download_coco.main(['--root', str(tmp_path), '--base-url', server.url, *args], parts)

    return run
