"""Check one config of each folder of mmdet's configs; write the tables of the docs."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Mapping
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from mmmutual.slimming.slim_share import percent

from .config_check import check_config
from .small_config import CONFIGS

RELATIVES = ('ResNet', 'ResNetV1d', 'ResNeXt', 'ResNeSt', 'Res2Net', 'RegNet', 'HRNet', 'DetectoRS_ResNet',
             'TridentResNet', 'Darknet', 'CSPDarknet', 'CSPNeXt')  # fmt: skip
TIMEOUT = 600  # seconds for one config


class Outcome(NamedTuple):
    """The result of checking a config.

    Attributes:
        reason: The reason why the config does not pass; empty if it passes.
        share: The slimmable share of the detector's multiply-adds, in [0, 1]; None if the config does not pass.
    """

    reason: str
    share: float | None = None


@cache
def families() -> dict[str, str]:
    """The config of each folder of mmdet: the first with r50 in its name whose backbone is related to ResNet."""
    found = {}
    for folder in sorted(path for path in CONFIGS.iterdir() if path.is_dir() and path.name != '_base_'):
        names = sorted(folder.rglob('*.py'), key=lambda path: ('r50' not in path.name, path))
        for path in names:
            try:
                model = Config.fromfile(path).get('model') or {}
            except (ImportError, OSError, KeyError, AttributeError):
                continue  # it needs a missing package, or is not a config of a detector
            model = model.get('detector', model)
            if str(model.get('backbone', {}).get('type')).split('.')[-1] in RELATIVES:
                found[folder.name] = f'mmdet::{path.relative_to(CONFIGS)}'
                break
    return found


def outcome(name: str, scope: str = 'backbone') -> Outcome:
    """Check a config in a separate process, which releases its memory at its end.

    Args:
        name: A config such as ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``.
        scope: The scope, ``'backbone'`` or ``'detector'``.

    Returns:
        Whether the config passes, and its slimmable share.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context('fork').Process(target=_report, args=(name, scope, theirs))
    process.start()
    theirs.close()
    if not ours.poll(TIMEOUT):
        process.kill()
        return Outcome(f'took longer than {TIMEOUT} s')
    try:
        return ours.recv()
    except EOFError:
        return Outcome('the process was killed, perhaps for its memory')
    finally:
        process.join()


def _report(name: str, scope: str, pipe: Connection) -> None:
    try:
        share = check_config(name, scope)
    except Exception as error:  # the table lists whatever a config fails with
        traceback.print_exc()
        line = (str(error).splitlines() or [''])[0]
        pipe.send(Outcome(line if isinstance(error, ValueError) else f'{type(error).__name__}: {line}'))
    else:
        pipe.send(Outcome('', share))


def write_table(results: Mapping[str, Mapping], path: str | Path, scope: str = 'backbone') -> None:
    """Write the results as a page of the docs.

    Args:
        results: ``config``, ``reason`` and ``share`` of each family, as the tool collects them.
        path: The Markdown file.
        scope: The scope, ``'backbone'`` or ``'detector'``.
    """
    rows = sorted(results.items())
    passed = [name for name, row in rows if not row['reason']]
    several = [name for name, row in rows if 'consists of several models' in row['reason']]
    option = '' if scope == 'backbone' else f' --scope {scope}'
    mutual = '' if scope == 'backbone' else f' {scope}'
    lines = [
        f"# MMDetection's detectors in scope `{scope}`",
        '',
        "This page lists one config of each folder in mmdet's `configs` whose backbone is a ResNet or a related",
        f'network. The check makes each config mutual as `tools/train.py CONFIG --mutual{mutual}` does. It shrinks',
        'data and images, but not the architecture. A config passes if:',
        '',
        "- predictions and losses at width 1.0 equal the stock detector's bit for bit;",
        '- one mutual iteration has finite losses, and a finite gradient for every parameter that has a gradient in',
        '  the stock detector;',
        '- the sub-networks of widths 1.0, 0.5 and 0.25 predict.',
        '',
        'The slimmable share is the share of the multiply-adds that are in slimmable layers, for an image of',
        '800 x 1333 pixels with at most 20 proposals. The other layers produce full outputs at every width.',
        '',
        f'**{len(passed)} of {len(rows)} pass.** {len(several)} of the others consist of several models, which is not '
        'supported.',
        f'`python tools/misc/check_mmdet_configs.py{option}` writes this page.',
        '',
        '| folder | config | slimmable share | result |',
        '|---|---|---|---|',
    ]
    for name, row in rows:
        reason = row['reason'].replace('|', '\\|') or 'passes'
        share = '' if row.get('share') is None else percent(row['share'])
        lines.append(f'| {name} | `{Path(row["config"]).name}` | {share} | {reason} |')
    Path(path).write_text('\n'.join([*lines, '']))
