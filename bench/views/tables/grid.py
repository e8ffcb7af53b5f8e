"""A table as cells: what every format writes, whatever its rows are of."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

MISSING = "–"
FAILED = "X"

Align = Literal["left", "right"]
Rank = Literal["best", "second"]


@dataclass(frozen=True)
class Head:
    """Header of a column, in two lines at most."""

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
    fields: Sequence[str] = ()
    """Names of its figures in CSV and JSON."""
    on_demand: bool = False
    """Whether it is shown only if it is named."""

    @property
    def tells_apart(self) -> bool:
        """Whether rows would be the same without it, so that it stays whichever columns are chosen."""
        return self.label and not self.on_demand

    @property
    def one_line(self) -> str:
        return self.text.replace("\n", " ")


@dataclass(frozen=True)
class Cell:
    """Content of one place of a table."""

    text: str
    rank: Rank | None = None
    footnote: str | None = None
    value: float | None = None
    """Value that its row is sorted by."""
    wrapped: bool = False
    name: str | None = None
    """Name of its row's model in the options of commands."""


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
    def rows(self) -> list[Sequence[Cell]]:
        """Those of all sections."""
        return [cells for section in self.sections for cells in section.rows]

    @property
    def ranked(self) -> bool:
        """Whether a cell is marked as the best of its column."""
        return any(cell.rank for row in self.rows for cell in row)


class Tabular(ABC):
    """Base of all that can be shown as a table. Subclasses give `rows`, `below` and `grids`."""

    rows: Sequence[Any]
    """Subjects of the rows of each grid, in their order."""

    @property
    def above(self) -> list[str]:
        """Lines that nobody may overlook: they stand there without notes too."""
        return []

    @property
    def below(self) -> list[str]:
        """Notes, a line each."""
        return []

    @abstractmethod
    def grids(self, digits: int | None = None) -> list[Grid]:
        """Grids for people, one or several, one below the other.

        digits: significant ones of every figure, by default as each is usually written.
        """

    def objects(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Every figure of some rows in full, for JSON: structs or mappings with the same fields."""
        return rows

    def figures(self, rows: Sequence[Any]) -> Iterator[list[object]]:
        """The same for CSV: names, then lines of values; None if nothing was measured."""
        found = [msgspec.to_builtins(each) for each in self.objects(rows)]
        nested = {name for each in found for name, value in each.items() if isinstance(value, dict)}
        names = [name for name in (found[0] if found else ()) if name not in nested]
        yield [*names]
        for each in found:
            yield [_flat(each[name]) for name in names]

    def record(self, objects: list[dict[str, Any]]) -> object:
        """Content for JSON, around those objects."""
        return objects


def _flat(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
