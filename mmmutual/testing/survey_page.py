"""The page of the docs that lists the result for one config of each folder of mmdet."""

from __future__ import annotations

from collections.abc import Mapping

from mmmutual.slimming import SCOPES
from mmmutual.slimming.slim_share import percent

SEVERAL = 'consists of several models'
INTRODUCTION = """\
# Supported configs

This page lists one config of each folder in mmdet's `configs`. The check makes the config mutual in both scopes, as
`tools/train.py CONFIG --mutual` and `tools/train.py CONFIG --mutual detector` do. It shrinks data and images, but not
the architecture. A config passes if:

- predictions and losses at width 1.0 equal the stock detector's bit for bit;
- one mutual iteration has finite losses, and a finite gradient for every parameter that has a gradient in
  the stock detector;
- the sub-networks of widths 1.0, 0.5 and 0.25 predict.

The table has two numbers for each scope, for an image of 800 x 1333 pixels with the proposals that the check keeps
(at most 20). The products inside attention count; other operations without weights do not.

- **slims**: the share of the multiply-adds in slimmable layers. The other layers produce full outputs at every width.
- **left**: the share of the multiply-adds that remains at width 0.25.

The check changes settings that need a download, a package or a GPU, in the stock detector too. It also corrects faults
of mmdet without which these detectors do not run at all. None of the changes touches a layer that can be slimmable.

| configs | change |
|---|---|
| all | random weights; batch norms and stem are trained in the stock detector as in the mutual one |
| BoxInst, SSD | `scales=(1.0,)` and `(1.0, 0.9)`, since the model needs one image size, or large images |
| CARAFE | its operator, computed in NumPy: mmcv has no kernel for the CPU |
| CrowdDet | RoIAlign of mmcv instead of torchvision |
| GLIP, Grounding DINO | a BERT of one layer with random weights; no recomputation of activations (`num_cp`) |
| Grounding DINO | `ref_point_head` with the inputs that mmdet 3.5.1 gives it |
| SSD | mmdet's `SSDHead` lacks the attribute `loss_cls`, which prediction reads |
"""


def format_page(results: Mapping) -> str:
    """Format the results of the survey as a page of the docs.

    Args:
        results: ``versions`` by package, and ``folders``: of each folder ``config``, ``detector``, ``backbone`` and
            ``scopes``, which has ``reason``, ``share`` and ``remaining`` of each scope.

    Returns:
        The page in Markdown.
    """
    folders = dict(sorted(results['folders'].items()))
    reasons = {name: {scope: row['scopes'][scope]['reason'] for scope in SCOPES} for name, row in folders.items()}
    passing = {scope: sum(not found[scope] for found in reasons.values()) for scope in SCOPES}
    several = sum(any(SEVERAL in reason for reason in found.values()) for found in reasons.values())
    versions = ', '.join(f'{name} {version}' for name, version in results['versions'].items())
    lines = [
        INTRODUCTION,
        '**{backbone} of {total} pass in scope `backbone`, and {detector} in scope `detector`.**'.format(
            total=len(folders), **passing
        ),
        f'{several} of the others have configs of several models only, such as trackers. Their detector alone can be',
        'made mutual.',
        '',
        f'Checked with {versions}.',
        'Results with another version of mmdet can differ.',
        '`python tools/misc/check_mmdet_configs.py --all` repeats the check and writes this page.',
        '',
        '| folder | config | backbone | `backbone` slims | left | `detector` slims | left | result |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for name, row in folders.items():
        numbers = [cell for scope in SCOPES for cell in _numbers(row['scopes'][scope])]
        config = row['config'].split('/')[-1]
        cells = [name, f'`{config}`', row['backbone'], *numbers, _result(reasons[name])]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def _numbers(found: Mapping) -> tuple[str, str]:
    if found['reason']:
        return '', ''
    return percent(found['share']), percent(found['remaining'])


def _result(reasons: Mapping[str, str]) -> str:
    """The result in both scopes: once if it is the same."""
    reasons = {scope: reason.replace('|', '\\|') or 'passes' for scope, reason in reasons.items()}
    if len(set(reasons.values())) == 1:
        return next(iter(reasons.values()))
    return '; '.join(f'`{scope}`: {reason}' for scope, reason in reasons.items())
