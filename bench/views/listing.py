"""Lists of all that can be measured: one row per suite, implementation or workload."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.views.tables.choice import chosen_rows
from bench.views.tables.grid import Cell, Grid, Head, Section, Tabular

LEFT_OUT_FIRST = {"citation": 3, "reference": 2, "tasks": 1}
"""Columns that a narrow terminal goes without: the largest number first."""


@dataclass(frozen=True)
class Listing(Tabular):
    """Rows with the same fields, of which `name` is the first."""

    rows: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], wanted: Sequence[str] | None = None) -> "Listing":
        """The rows, or those of some names or titles. Raises UsageError for one that is not among them."""
        return cls(chosen_rows(rows, wanted, lambda row: [row["name"], row.get("title", row["name"])]))

    def grids(self, digits: int | None = None) -> list[Grid]:
        """One grid without what has parts of its own; words wrap if the screen is narrow."""
        keys = (
            [key for key, value in self.rows[0].items() if not isinstance(value, dict)] if self.rows else []
        )
        heads = [
            Head(
                key,
                "left",
                drop=LEFT_OUT_FIRST.get(key, 0),
                label=key == "name",
                words=key != "name",
                fields=(key,),
            )
            for key in keys
        ]
        return [Grid(heads, [Section(None, [[_cell(row[key]) for key in keys] for row in self.rows])])]


def _cell(value: Any) -> Cell:
    if isinstance(value, list):
        return Cell(", ".join(map(str, value)))
    return Cell("" if value is None else str(value), value=value if isinstance(value, int) else None)
