"""A server of tiny zips of COCO that drops, cuts and refuses as configured."""

import io
import json
import os
import re
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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


def assert_whole(root, files=JPEGS):
    assert {name: (root / name).read_bytes() for name in files} == files
    assert not [path for path in root.rglob('*') if path.suffix in ('.part', '.tag', '.tmp')]


def leave_partial(root, data, tag='"one"'):
    (root / 'val2017.zip.part').write_bytes(data)
    (root / 'val2017.zip.part.tag').write_text(tag)
