"""The identity of a table of results: hashes of the checkpoint, the settings and the data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from mmmutual.config_tree import nested_dicts
from mmmutual.datasets.data_check import annotation_files

SETTINGS = ('model', 'test_dataloader', 'test_evaluator')
WHAT = {'checkpoint_sha256': 'checkpoint', 'config_sha256': 'model, test data or evaluator', 'data_sha256': 'data'}


def identity(config: Config, checkpoint: str | Path) -> dict[str, str | None]:
    """Hashes of everything that determines the metrics of an evaluation.

    Args:
        config: An MMDetection config.
        checkpoint: The weights.

    Returns:
        SHA-256 of the checkpoint file, of the settings for the model, the test data and the evaluator, and of the
        annotation files; the last is None if the files are missing.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f'there is no checkpoint file {checkpoint} on this machine')
    settings = {name: config.get(name) for name in SETTINGS}
    settings['fp16'] = config.test_cfg.get('fp16', False)
    settings = Config(settings).to_dict()
    for node in nested_dicts(settings['model']):
        if str(node.get('type')) in ('SlimmableDetector', 'NarrowDetector') and 'scope' in node:
            node['slim'] = node.pop('scope')  # as before mmmutual 0.2, so that tables remain valid
    text = json.dumps(settings, sort_keys=True, default=str)
    files = annotation_files(config, 'test')
    return dict(
        checkpoint_sha256=sha256([checkpoint]),
        config_sha256=hashlib.sha256(text.encode()).hexdigest(),
        data_sha256=sha256(files) if all(Path(file).is_file() for file in files) else None,
    )


def check_identity(context: Mapping, expected: Mapping[str, str | None], path: str | Path) -> None:
    """Check that a query table belongs to a checkpoint, its settings and its data.

    Args:
        context: Context of the table.
        expected: As ``identity`` returns it; what is None is not compared.
        path: The table's file, for the message.

    Raises:
        ValueError: If a hash differs.
    """
    for name, what in WHAT.items():
        if expected[name] is not None and context.get(name) != expected[name]:
            raise ValueError(
                f'the query table {path} was written for another {what} (config {context["config"]}, checkpoint '
                f'{context["checkpoint"]}, {context["created"]}), so it cannot be continued. Write it again with '
                '--force, or a second one with --out'
            )


def sha256(paths: Sequence[str | Path]) -> str:
    """SHA-256 of the concatenated files."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, 'rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
