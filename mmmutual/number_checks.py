"""Check whole and positive numbers; booleans are not numbers."""

from __future__ import annotations

import math
from numbers import Integral, Real


def is_whole(value: object, least: float = -math.inf) -> bool:
    """Whether a value is a whole number of at least ``least``."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def check_whole(value: int, name: str, least: int, unit: str = '') -> int:
    """Validate a whole number.

    Args:
        value: The number given by the user.
        name: The argument's name, for the message.
        least: The smallest number that is allowed.
        unit: Unit of the count, for the message, such as ``'frames'``.

    Returns:
        The value as an int.

    Raises:
        TypeError: If it is not a whole number.
        ValueError: If it is too small.
    """
    if not is_whole(value):
        raise TypeError(f'{name} must be a whole number, but got {value!r}')
    if value < least:
        raise ValueError(f'{name} must be at least {least}{f" {unit}" if unit else ""}, but got {value}')
    return int(value)


def check_positive(value: float, name: str, unit: str = '', finite: bool = False) -> float:
    """Validate a number above 0.

    Args:
        value: The number given by the user.
        name: The argument's name, for the message.
        unit: Unit of the number, for the message, such as ``'milliseconds'``.
        finite: Whether infinity is rejected.

    Returns:
        The value as a float.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not above 0, or if it is infinite and ``finite`` is true.
    """
    message = f'{name} must be a number{f" of {unit}" if unit else ""} above 0, but got {value!r}'
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(message)
    if not value > 0 or (finite and math.isinf(value)):
        raise ValueError(message)
    return float(value)
