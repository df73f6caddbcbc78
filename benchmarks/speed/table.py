"""A table of measurements, as text and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from terminaltables import AsciiTable

from .timing import quartiles

HEADER = ('what', 'measured', 'quartiles', 'target', 'met', 'reference')


@dataclass(frozen=True)
class Row:
    """One measurement against its target.

    Attributes:
        what: Name of the measurement.
        values: One value for each round.
        reference: The divisor, or other context.
        target: Upper limit of the median; None if there is no target.
        unit: The text after the number: ``'x'`` for a ratio, else ``' ms'`` or ``' s'``.
    """

    what: str
    values: tuple[float, ...]
    reference: str = ''
    target: float | None = None
    unit: str = 'x'

    @property
    def met(self) -> bool | None:
        """Whether the median is within the target."""
        return None if self.target is None else quartiles(self.values)[1] <= self.target

    def cells(self) -> list[str]:
        """The row as text, in the order of ``HEADER``."""
        low, middle, high = (f'{value:.3f}' if self.unit == 'x' else f'{value:.2f}' for value in quartiles(self.values))
        target = '' if self.target is None else f'<= {self.target:.4g}{self.unit}'
        met = {True: 'yes', False: 'no', None: ''}[self.met]
        return [self.what, f'{middle}{self.unit}', f'{low} to {high}', target, met, self.reference]

    def as_dict(self) -> dict:
        """For JSON: the row with its quartiles and the verdict."""
        return {**asdict(self), 'quartiles': quartiles(self.values), 'met': self.met}


def as_text(rows: Sequence[Row]) -> str:
    """A table for the terminal."""
    return AsciiTable([list(HEADER), *(row.cells() for row in rows)]).table


def as_markdown(rows: Sequence[Row]) -> str:
    """The same table for docs/speed.md."""
    lines = [HEADER, ['---'] * len(HEADER), *(row.cells() for row in rows)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
