"""Channel rounding: how many channels of a layer are active at a width multiplier.

A sub-network of width ``w`` uses the first ``k`` channels of every layer, where ``k`` is ``w`` times the full number
rounded to a multiple of 8, never below 90 % of it (the rule of MobileNet and of the authors' ``make_divisible``,
github.com/taoyang1122/MutualNet, ``models/slimmable_ops.py``).
"""

DIVISOR = 8


def active_channels(channels: int, width: float, divisor: int = DIVISOR) -> int:
    """Number of active channels of a layer at a width multiplier.

    Args:
        channels: Channels of the layer at full width.
        width: Width multiplier in (0, 1].
        divisor: The result is a multiple of it, unless that exceeds ``channels``.

    Returns:
        Between 1 and ``channels``; ``channels`` itself at width 1.0.

    Examples:
        >>> [active_channels(64, width) for width in (1.0, 0.75, 0.5, 0.25)]
        [64, 48, 32, 16]
    """
    if width == 1.0:
        return channels
    target = channels * width
    rounded = max(divisor, int(target + divisor / 2) // divisor * divisor)
    if rounded < 0.9 * target:
        rounded += divisor
    return min(rounded, channels)
