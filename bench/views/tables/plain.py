"""A table whose rows a command has already, with lines around it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Generic, TypeVar

import msgspec

from bench.views.tables.grid import Cell, Grid, Head, Section, Tabular

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Plain(Tabular, Generic[T]):
    """Rows of one kind, a grid of them, and for JSON what they are a part of."""

    heads: Sequence[Head]
    rows: Sequence[T]
    cells: Callable[[T, int | None], Sequence[Cell]]
    """The cells of a row, with so many significant digits."""
    whole: Any
    """A struct, of which JSON holds every field."""
    field: str
    """The one that holds the rows."""
    part: Callable[[T], str | None] = lambda row: None
    """Heading of a row's section, if there are several."""
    lines_above: Sequence[str] = ()
    lines_below: Sequence[str] = ()

    @property
    def above(self) -> list[str]:
        return [*self.lines_above]

    @property
    def below(self) -> list[str]:
        return [*self.lines_below]

    def grids(self, digits: int | None = None) -> list[Grid]:
        """One grid."""
        sections = [
            Section(heading, [self.cells(row, digits) for row in part])
            for heading, part in groupby(self.rows, key=self.part)
        ]
        return [Grid(self.heads, sections)]

    def record(self, objects: list[dict[str, Any]]) -> object:
        return msgspec.to_builtins(self.whole) | {self.field: objects}
