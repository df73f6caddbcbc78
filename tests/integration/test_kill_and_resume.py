"""A few kills of benchmarks/kill_and_resume.py: one for each fault."""

import subprocess
import sys


def test_a_killed_training_or_table_goes_on_as_if_it_had_not_been(root):
    command = [sys.executable, '-m', 'benchmarks.kill_and_resume', '--kills', '2', '--epochs', '2']
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [line for line in result.stdout.splitlines() if line.startswith('|')][1:]
    assert len(rows) == 4 and all(row.split('|')[4].strip() == 'nothing' for row in rows), result.stdout
