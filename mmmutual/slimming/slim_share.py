"""The share of a detector's multiply-adds in slimmable layers, in one line, with a warning if it is below a half."""

from __future__ import annotations

from .plan import SlimmingPlan

HALF = 0.5
MAX_NAMED = 3
OUTSIDE = 'neck and heads are outside of this scope'
WAY_OUT = {
    'backbone': 'Use --scope detector (with tools/train.py: --mutual detector), or another backbone',
    'detector': 'Use another backbone, neck or head',
}


def format_share(plan: SlimmingPlan) -> str:
    """Format the share of a detector's multiply-adds in slimmable layers.

    Args:
        plan: The plan of the detector.

    Returns:
        A line; if the share is below a half, a second line that warns, with the largest reasons and the way out.
    """
    if not plan.multiply_adds:
        return 'the slimmable share of the multiply-adds is not known: the detector does not run on an image alone'
    line = f'slims {percent(plan.share)} of the multiply-adds of the detector (scope {plan.scope})'
    if plan.share >= HALF:
        return line
    return f'{line}\nwarning: that is less than half, since {_rest(plan)}. {WAY_OUT[plan.scope]}'


def percent(share: float) -> str:
    """A share in [0, 1] as whole percent."""
    return f'{100 * share:.0f} %'


def _rest(plan: SlimmingPlan) -> str:
    """The reasons for the rest, the largest first."""
    reasons = dict(plan.reasons)
    if plan.scope == 'backbone':
        reasons[OUTSIDE] = 1 - plan.share - sum(reasons.values())
    largest = sorted(reasons.items(), key=lambda item: item[1], reverse=True)[:MAX_NAMED]
    return '; '.join(f'{reason} ({percent(share)})' for reason, share in largest if share >= 0.005)
