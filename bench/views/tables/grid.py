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

    @property
    def one_line(self) -> str:
        return self.text.replace("\n", " ")


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table."""

    text: str
    rank: Rank | None = None
    footnote: str | None = None


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

    @property
    def ranked(self) -> bool:
        """Whether a cell is marked as the best of its column."""
        return any(cell.rank for section in self.sections for row in section.rows for cell in row)
