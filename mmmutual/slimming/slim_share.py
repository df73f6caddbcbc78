"""The share of a detector's multiply-adds that slims, in one line, with a warning if it is below a half."""

from __future__ import annotations

from .plan import SlimmingPlan

HALF = 0.5
MAX_NAMED = 3
OUTSIDE = 'neck and heads are outside of this scope'
WAY_OUT = {
    'backbone': 'Use --slim detector (with tools/train.py: --mutual detector), or another backbone',
    'detector': 'Use another backbone, neck or head',
}


def format_share(plan: SlimmingPlan) -> str:
    """The share of a detector's multiply-adds that slims.

    Args:
        plan: The plan of the detector.

    Returns:
        A line; if the share is below a half, a second line that warns, with the largest reasons and the way out.
    """
    if not plan.multiply_adds:
        return 'the share of the multiply-adds that slims is not known: the detector runs on no plain image'
    line = f'slims {percent(plan.share)} of the multiply-adds of the detector (scope {plan.scope})'
    if plan.share >= HALF:
        return line
    return f'{line}\nwarning: that is less than half, since {_rest(plan)}. {WAY_OUT[plan.scope]}'


def percent(share: float) -> str:
    """A share in [0, 1] as whole percent."""
    return f'{100 * share:.0f} %'


def _rest(plan: SlimmingPlan) -> str:
    """What keeps the rest, the largest reasons first."""
    reasons = dict(plan.reasons)
    if plan.scope == 'backbone':
        reasons[OUTSIDE] = 1 - plan.share - sum(reasons.values())
    largest = sorted(reasons.items(), key=lambda item: item[1], reverse=True)[:MAX_NAMED]
    return '; '.join(f'{reason} ({percent(share)})' for reason, share in largest if share >= 0.005)
