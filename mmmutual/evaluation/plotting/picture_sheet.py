"""A sheet of pictures that compares sub-networks: the same images, a column for each sub-network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .drawn_instances import Color

TILE = 320  # width of a picture in pixels
DPI = 100
GAP, TITLE, LINE = 6, 44, 26  # pixels: between pictures, above a block of rows, and of a line of the legend
LETTER, PATCH = 8, 56  # pixels of the legend: of a letter, and around a name


class Sheet:
    """Rows of pictures under the titles of their columns, and a legend of the classes below.

    Rows come in blocks, each with its titles. Every picture is shown pixel by pixel.

    Args:
        columns: Number of columns.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._blocks: list[tuple[Sequence[str], list[list[tuple[np.ndarray, str]]]]] = []

    def start_block(self, titles: Sequence[str]) -> None:
        """Begin rows with a title above each column."""
        self._blocks.append((titles, []))

    def add_row(self, pictures: Sequence[np.ndarray], notes: Sequence[str]) -> None:
        """Add a row to the last block.

        Args:
            pictures: One (H, ``TILE``, 3) in RGB for each column, all of one height.
            notes: A text on each picture, or ''.
        """
        self._blocks[-1][1].append(list(zip(pictures, notes)))

    def save(self, path: str | Path, legend: dict[str, Color]) -> Path:
        """Write the sheet.

        Args:
            path: Where it goes; the folder is made.
            legend: RGB of each class that is shown.

        Returns:
            The path.
        """
        sheet_width = self.columns * (TILE + GAP) + GAP
        names_in_line = max(1, sheet_width // (PATCH + LETTER * max(map(len, legend), default=0)))
        sheet_height = GAP + LINE * -(-len(legend) // names_in_line)
        sheet_height += sum(TITLE + sum(row[0][0].shape[0] + GAP for row in rows) for _, rows in self._blocks)
        figure = Figure(figsize=(sheet_width / DPI, sheet_height / DPI), dpi=DPI)
        y = 0
        for titles, rows in self._blocks:
            y += TITLE
            for column, title in enumerate(titles):
                x = GAP + column * (TILE + GAP) + TILE / 2
                figure.text(x / sheet_width, 1 - (y - 5) / sheet_height, title, ha='center', va='bottom', fontsize=10)
            for row in rows:
                for column, (picture, note) in enumerate(row):
                    tall = picture.shape[0]
                    x = GAP + column * (TILE + GAP)
                    axes = figure.add_axes(
                        (x / sheet_width, 1 - (y + tall) / sheet_height, TILE / sheet_width, tall / sheet_height)
                    )
                    axes.imshow(picture, interpolation='none', aspect='auto')
                    axes.set_axis_off()
                    _write(axes, note)
                y += row[0][0].shape[0] + GAP
        if legend:
            figure.legend(
                handles=[Patch(color=_unit(color), label=name) for name, color in legend.items()],
                loc='lower center',
                ncols=min(len(legend), names_in_line),
                frameon=False,
                fontsize=11,
            )
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DPI)
        return path


def _write(axes: Axes, note: str) -> None:
    if note:
        axes.text(
            0.5, 0.03, note, transform=axes.transAxes, ha='center', va='bottom', fontsize=10,
            bbox=dict(facecolor='white', edgecolor='none', alpha=0.85, pad=2),
        )  # fmt: skip


def _unit(color: Color) -> tuple[float, float, float]:
    """A colour as matplotlib takes it."""
    red, green, blue = color
    return red / 255, green / 255, blue / 255
