"""A table as cells: what every format writes, whatever its rows are of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MISSING = "–"
FAILED = "X"

Align = Literal["left", "right"]
Rank = Literal["best", "second"]


@dataclass(frozen=True)
class Head:
    """What stands above a column, in two lines at most."""

    text: str
    align: Align = "right"
    drop: int = 0
    """A narrow terminal leaves out the columns with the largest first, and never one with 0."""
    label: bool = False
    """Whether it says what a row is of, and so stands in every part of a table."""
    words: bool = False
    """Whether its cells may be wrapped."""
    most_first: bool = False
    """Whether the largest is the best."""

    @property
    def one_line(self) -> str:
        return self.text.replace("\n", " ")


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table."""

    text: str
    rank: Rank | None = None
    footnote: str | None = None
    value: float | None = None
    """What its row is sorted by."""
    wrapped: bool = False


@dataclass(frozen=True)
class Section:
    """Rows that stand together: one panel, one complexity class."""

    heading: str | None
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Grid:
    """Heads, and sections of rows with a cell for each head."""

    heads: Sequence[Head]
    sections: Sequence[Section]

    def of(self, numbers: Sequence[int]) -> "Grid":
        """The grid of some columns, in that order."""
        return Grid(
            [self.heads[number] for number in numbers],
            [
                Section(part.heading, [[cells[number] for number in numbers] for cells in part.rows])
                for part in self.sections
            ],
        )

    @property
    def ranked(self) -> bool:
        """Whether a cell is marked as the best of its column."""
        return any(cell.rank for section in self.sections for row in section.rows for cell in row)
