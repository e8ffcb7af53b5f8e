"""Lists of all that can be measured: one row per suite, implementation or workload."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from bench.text.units import significant
from bench.views.tables.choice import chosen_rows
from bench.views.tables.grid import MISSING, Cell, Grid, Head, Section, Tabular

LEFT_OUT_FIRST = {"citation": 3, "reference": 2, "tasks": 1}
"""Columns that a narrow terminal goes without: the largest number first."""
PARTS = {"resolved"}
"""Fields that JSON alone has: a suite as it is resolved."""


@dataclass(frozen=True)
class Listing(Tabular):
    """Rows with the same fields, of which the first is their name."""

    rows: Sequence[Mapping[str, Any]]
    fields: Sequence[str] = ()
    """Names of the fields, for a listing without rows."""

    @classmethod
    def of(
        cls,
        rows: Sequence[Mapping[str, Any]],
        wanted: Sequence[str] | None = None,
        fields: Sequence[str] = (),
    ) -> "Listing":
        """The rows, or those of some names or titles. Raises UsageError for one that is not among them."""
        return cls(chosen_rows(rows, wanted, _names), fields)

    def grids(self, digits: int | None = None) -> list[Grid]:
        """One grid without what has parts of its own; words wrap if the screen is narrow."""
        keys = self._shown
        heads = [
            Head(
                key,
                "right" if self._is_numeric(key) else "left",
                drop=LEFT_OUT_FIRST.get(key, 0),
                label=number == 0,
                words=number > 0 and not self._is_numeric(key),
                fields=(key,),
            )
            for number, key in enumerate(keys)
        ]
        cells = [[_cell(row[key], digits) for key in keys] for row in self.rows]
        return [Grid(heads, [Section(None, cells)])]

    def figures(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[list[object]]:
        """The same columns for CSV; lists and mappings as text."""
        yield [*self._shown]
        for row in rows:
            yield [_text(row[key]) if isinstance(row[key], list | dict) else row[key] for key in self._shown]

    @property
    def _shown(self) -> list[str]:
        return [key for key in (self.rows[0] if self.rows else self.fields) if key not in PARTS]

    def _is_numeric(self, key: str) -> bool:
        """Whether a column holds figures alone."""
        values = [row[key] for row in self.rows if row[key] is not None]
        return bool(values) and all(map(_is_figure, values))


def _names(row: Mapping[str, Any]) -> list[str]:
    name = str(next(iter(row.values())))
    return [name, row.get("title", name)]


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _cell(value: Any, digits: int | None) -> Cell:
    if value is None:
        return Cell(MISSING)
    if isinstance(value, list | dict):
        return Cell(_text(value))
    if not _is_figure(value):
        return Cell(str(value))
    if digits is None or not isinstance(value, float | Decimal):
        return Cell(str(value), value=float(value))
    return Cell(significant(float(value), digits), value=float(value))


def _text(value: list[Any] | dict[Any, Any]) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else json.dumps(value, default=str)
