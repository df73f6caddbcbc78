"""Progress in a log file is a few lines."""

import io
import time

from mmmutual.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_lines_at_the_start_and_at_the_end():
    file = io.StringIO()
    with Progress(total=200, desc='drawing', file=file) as bar:
        for _ in range(200):
            time.sleep(0.001)
            bar.update()
    lines = [line for line in file.getvalue().splitlines() if line]
    assert 1 <= len(lines) <= 2 and '\r' not in file.getvalue()
    assert lines[-1].startswith('drawing: 100%')


def test_a_terminal_gets_a_bar():
    file = Terminal()
    list(Progress(range(3), file=file, mininterval=0))
    assert file.getvalue().count('\r') >= 3
