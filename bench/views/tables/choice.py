"""What a user wants of a table: which columns, in which order, under which names."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.errors import UsageError
from bench.views.tables.grid import Cell, Grid, Head, Section


@dataclass(frozen=True)
class Choice:
    """Options of `bench table` about what people read; CSV and JSON hold every figure."""

    columns: Sequence[str] | None = None
    sort: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    """Headers of columns, or names of models, by their old ones."""
    notes: bool = True

    def of(self, grids: Sequence[Grid]) -> list[Grid]:
        """The grids as wanted. Raises UsageError for a name that they do not have."""
        return [self._renamed(self._sorted(self._chosen(grid))) for grid in grids]

    def _chosen(self, grid: Grid) -> Grid:
        if self.columns is None:
            return grid
        numbers = [_number(grid, name, "--columns") for name in self.columns]
        # What was asked for by name is not left out to fit; the first column says what a row is.
        kept = grid.of([0, *dict.fromkeys(number for number in numbers if number != 0)])
        return Grid([replace(head, drop=0) for head in kept.heads], kept.sections)

    def _sorted(self, grid: Grid) -> Grid:
        """All rows of a grid in one section, best first; what has no figure comes last."""
        if self.sort is None:
            return grid
        number = _number(grid, self.sort, "--sort")
        sign = -1 if grid.heads[number].most_first else 1
        rows = [cells for section in grid.sections for cells in section.rows]
        if number != 0 and rows and all(cells[number].value is None for cells in rows):
            raise UsageError(f"--sort {self.sort}: this column has no figures in this table to sort by")

        def key(cells: Sequence[Cell]) -> tuple[bool, float, str]:
            value = cells[number].value
            return (value is None and number != 0, sign * (value or 0.0), cells[number].text)

        return Grid(grid.heads, [Section(None, sorted(rows, key=key))])

    def _renamed(self, grid: Grid) -> Grid:
        new = {_plain(old): name for old, name in self.rename.items()}
        names = {_plain(head.one_line) for head in grid.heads}
        models = {_plain(cells[0].text) for part in grid.sections for cells in part.rows}
        for old in self.rename:
            if _plain(old) not in names | models:
                raise _unknown(old, "--rename", sorted(names | models))

        def head(one: Head) -> Head:
            return replace(one, text=new.get(_plain(one.one_line), one.text))

        def row(cells: Sequence[Cell]) -> list[Cell]:
            first = replace(cells[0], text=new.get(_plain(cells[0].text), cells[0].text))
            return [first, *cells[1:]]

        sections = [Section(part.heading, list(map(row, part.rows))) for part in grid.sections]
        return Grid(list(map(head, grid.heads)), sections)


def _number(grid: Grid, name: str, option: str) -> int:
    names = [_plain(head.one_line) for head in grid.heads]
    if _plain(name) not in names:
        raise _unknown(name, option, names)
    return names.index(_plain(name))


def _plain(header: str) -> str:
    """A header as people type it: `speed` is `Speed (× Transformer)`."""
    return header.split(" (×")[0].strip().lower()


def _unknown(name: str, option: str, known: Sequence[str]) -> UsageError:
    near = difflib.get_close_matches(_plain(name), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"{option} {name}: {hint}choose {', '.join(known)}")
