"""The share of a detector's multiply-adds that slims, in one line, with a warning if it is below a half."""

from __future__ import annotations

from mmmutual.slimming import SlimmingPlan

HALF = 0.5
MAX_NAMED = 3
WAY_OUT = {
    'backbone': '--slim detector (with tools/train.py: --mutual detector) lets neck and heads slim too, and another '
    'backbone may slim more',
    'detector': 'another backbone, neck or head may slim more',
}


def format_share(plan: SlimmingPlan, slim: str) -> str:
    """The share of a detector's multiply-adds that slims.

    Args:
        plan: The plan of the detector.
        slim: The scope of the plan: ``'backbone'`` or ``'detector'``.

    Returns:
        A line; if the share is below a half, a second line that warns: with the largest reasons, and the way out.
    """
    line = f'slims {percent(plan.share)} of the multiply-adds of the detector (scope {slim})'
    if plan.share >= HALF:
        return line
    reasons = ', '.join(f'{reason} ({percent(share)})' for reason, share in list(plan.kept.items())[:MAX_NAMED])
    return (
        f'{line}\nwarning: less than half of the multiply-adds slims, because the rest is the same at every width: '
        f'{reasons}; {WAY_OUT[slim]}'
    )


def percent(share: float) -> str:
    """A share in [0, 1] as whole percent."""
    return f'{100 * share:.0f} %'
