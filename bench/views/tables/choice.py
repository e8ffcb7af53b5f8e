"""A user's choice for a table: columns, their order and names, and the number of digits."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from bench.errors import UsageError
from bench.suites.rows import canonical
from bench.text.units import significant
from bench.views.tables.grid import Grid, Head, Section, Tabular
from bench.views.tables.renaming import Names, plain

T = TypeVar("T")
LABELS = ("model", "title")
"""Fields that hold a model's name; the first of them stands in every choice of columns."""

NEED_ARITHMETIC = ("tflop/s", "mfu", "flops", "flops_per_second", "utilisation")
"""Columns of what a run measures only if they are named when it is made."""


def needs_arithmetic(columns: Sequence[str] | None) -> bool:
    """Whether some of the columns need FLOPs, and the device's ceiling."""
    return any(plain(name) in NEED_ARITHMETIC for name in columns or ())


@dataclass(frozen=True)
class Choice:
    """The options that all tables have, in every format."""

    columns: Sequence[str] | None = None
    sort: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    """Headers of columns, or names or titles of models, by their old ones."""
    digits: int | None = None
    """Significant ones of each figure."""
    notes: bool = True
    """Without them, a letter in a cell still has its line: an X has its reason."""

    def of(self, table: Tabular) -> tuple[list[Grid], list[str]]:
        """The grids and the lines below them, as wanted. Raises UsageError for a name that they lack."""
        return self._spelled(table)._of(table)

    def _of(self, table: Tabular) -> tuple[list[Grid], list[str]]:
        grids = table.grids(self.digits)
        chosen = self._chosen(self._sorted(self._meant(grids)), several=len(grids) > 1)
        below = list(table.below) if self.notes else _footnotes(chosen, table.below)
        if not self.rename:
            return chosen, below
        names = self._names(grids)
        return list(map(names.in_grid, chosen)), list(map(names.in_words, below))

    def objects(self, table: Tabular) -> list[dict[str, Any]]:
        """The same for JSON, with every figure in full unless `digits` says otherwise."""
        self = self._spelled(table)
        found = [msgspec.to_builtins(each) for each in table.objects(self._ordered(table))]
        names, lines = self._fields(table, list(found[0]) if found else [], [list(o.values()) for o in found])
        return [dict(zip(names, line, strict=True)) for line in lines]

    def figures(self, table: Tabular) -> list[Sequence[object]]:
        """The same for CSV: names, then lines."""
        self = self._spelled(table)
        names, *lines = table.figures(self._ordered(table))
        new, chosen = self._fields(table, list(map(str, names)), lines)
        return [new, *chosen]

    def _spelled(self, table: Tabular) -> "Choice":
        """The same with names as the table has them: a unit may be left out, a setting written otherwise."""
        grids = table.grids()
        heads = [plain(head.one_line) for grid in grids for head in grid.heads]
        labels = {
            plain(text)
            for grid in grids
            for cells in grid.rows
            for text in (cells[0].text, cells[0].name or "")
        }

        def full(word: str) -> str:
            if plain(word) in heads or plain(word) in labels:
                return word
            by_unit = list(dict.fromkeys(head for head in heads if head.split(" [")[0] == plain(word)))
            if len(by_unit) == 1:
                return by_unit[0]
            return canonical(word) if plain(canonical(word)) in labels else word

        return replace(
            self,
            columns=None if self.columns is None else list(map(full, self.columns)),
            sort=None if self.sort is None else full(self.sort),
            rename={full(old): new for old, new in self.rename.items()},
        )

    def check(self, table: Tabular, form: str, later: Iterable[str] = ()) -> None:
        """Raise UsageError for a column that the table lacks, while it has no figures yet.

        later: headers of columns that it may get with them.
        """
        heads = [plain(head.one_line) for grid in table.grids() for head in grid.heads]
        fields = list(map(str, next(iter(table.figures([]))))) if form in ("csv", "json") else []
        known = list(dict.fromkeys([*heads, *map(plain, later), *map(plain, fields)]))
        sort = [] if self.sort is None else [self.sort]
        for option, words in (("--columns", self.columns or ()), ("--sort", sort)):
            for word in words:
                if plain(word) not in known:
                    raise unknown(word, option, known)
        self._names(table.grids(), known)

    def _names(self, grids: Sequence[Grid], fields: Sequence[str] = ()) -> Names:
        names = Names.of(grids, self.rename)
        known = names.known | set(map(plain, fields))
        for old, new in self.rename.items():
            if plain(old) not in known:
                raise unknown(old, "--rename", sorted(known))
            if plain(new) in names.twice:
                raise UsageError(f"--rename {old}={new}: another has that name; choose one for each")
        return names

    def _meant(self, grids: Sequence[Grid]) -> list[Grid]:
        """Those of several grids whose first column is named; all of them if none is."""
        wanted = set(map(plain, self.columns or ()))
        first = [grid for grid in grids if plain(grid.heads[0].one_line) in wanted]
        return first or list(grids)

    def _chosen(self, grids: Sequence[Grid], several: bool) -> list[Grid]:
        """The columns that are named. The first one says what a row is, and stays."""
        if self.columns is None:
            return [grid.of([n for n, head in enumerate(grid.heads) if not head.on_demand]) for grid in grids]
        known = list(dict.fromkeys(plain(head.one_line) for grid in grids for head in grid.heads))
        for word in self.columns:
            if plain(word) not in known:
                raise unknown(word, "--columns", known)
        wanted = list(dict.fromkeys(map(plain, self.columns)))
        return [_of(grid, wanted, whole=several) for grid in grids]

    def _sorted(self, grids: Sequence[Grid]) -> list[Grid]:
        """All rows in one section, in the order of the first grid: best first, without a figure last."""
        if self.sort is None:
            return list(grids)
        order = _order(grids, self.sort)
        return [Grid(grid.heads, [Section(None, [grid.rows[place] for place in order])]) for grid in grids]

    def _ordered(self, table: Tabular) -> Sequence[Any]:
        """The table's rows in that order."""
        if self.sort is None:
            return table.rows
        return [table.rows[place] for place in _order(self._meant(table.grids()), self.sort)]

    def _fields(
        self, table: Tabular, names: Sequence[str], lines: Iterable[Sequence[object]]
    ) -> tuple[list[str], list[list[object]]]:
        """Fields and values as wanted: a column is a field by its own name, or those of a table's column."""
        grids = table.grids()
        renaming = self._names(grids, names)
        heads = [head for grid in grids for head in grid.heads]
        chosen = list(range(len(names)))
        if self.columns is not None:
            wanted = [one for name in self.columns for one in _fields_of(name, names, heads, "--columns")]
            first = [names.index(label) for label in LABELS[:1] if label in names] or [0]
            telling = [
                names.index(one)
                for head in heads[1:]
                if head.tells_apart
                for one in head.fields[:1]
                if one in names and one not in wanted
            ]
            chosen = list(dict.fromkeys([*first, *telling, *map(names.index, wanted)]))
        new = {}
        for old, word in self.rename.items():
            fields = _fields_of(old, names, heads)
            if len(fields) > 1:
                raise UsageError(f"--rename {old}: is more than one field here: {', '.join(fields)}")
            new.update(dict.fromkeys(fields, word))
        labels = {number for number, name in enumerate(names) if name in LABELS}

        def value(line: Sequence[object], number: int) -> object:
            found = line[number]
            if number in labels:
                return renaming.models.get(plain(str(found)), found)
            return self._rounded(found)

        return [new.get(names[one], names[one]) for one in chosen], [
            [value(line, number) for number in chosen] for line in lines
        ]

    def _rounded(self, value: object) -> object:
        if self.digits is None:
            return value
        if isinstance(value, dict):
            return {key: self._rounded(each) for key, each in value.items()}
        if isinstance(value, list):
            return list(map(self._rounded, value))
        return float(significant(value, self.digits)) if isinstance(value, float) else value


def chosen_rows(
    rows: Sequence[T], wanted: Sequence[str] | None, names: Callable[[T], Sequence[str]]
) -> list[T]:
    """Rows of some models, by any of their names, in the table's order. Raises UsageError."""
    if wanted is None:
        return list(rows)
    known = {plain(name) for row in rows for name in names(row)}
    wanted = [name if plain(name) in known else canonical(name) for name in wanted]
    for name in wanted:
        if plain(name) not in known:
            raise unknown(name, "--rows", list(dict.fromkeys(names(row)[0] for row in rows)))
    kept = set(map(plain, wanted))
    return [row for row in rows if kept & set(map(plain, names(row)))]


def unknown(name: str, option: str, known: Sequence[str]) -> UsageError:
    """Error for an unknown name, with the nearest that is known."""
    if plain(name) in NEED_ARITHMETIC:
        return UsageError(f"{option} {name}: no FLOPs were counted; bench run --columns {name} counts them")
    near = difflib.get_close_matches(plain(name), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"{option} {name}: {hint}choose {', '.join(known)}")


def _order(grids: Sequence[Grid], name: str) -> list[int]:
    """Places of the rows by a column of the first grid. The first columns of several hold the same names."""
    grid = grids[0]
    heads = grid.heads if len(grids) == 1 else grid.heads[1:]
    names = [plain(head.one_line) for head in heads]
    if plain(name) not in names:
        raise unknown(name, "--sort", names)
    number = names.index(plain(name)) + len(grid.heads) - len(heads)
    head, rows = grid.heads[number], grid.rows
    words = head.align == "left"
    if not words and rows and all(cells[number].value is None for cells in rows):
        raise UsageError(f"--sort {name}: this column has no figures in this table to sort by")

    def key(place: int) -> tuple[bool, float, str]:
        cell = rows[place][number]
        value = cell.value or 0.0
        return (cell.value is None and not words, -value if head.most_first else value, cell.text)

    return sorted(range(len(rows)), key=key)


def _of(grid: Grid, wanted: Sequence[str], whole: bool) -> Grid:
    """The grid of these columns, and of those that tell rows apart.

    whole: whether the name of its first column means all of them, as it does of one grid among several.
    """
    names = [plain(head.one_line) for head in grid.heads]
    numbers = [names.index(name) for name in wanted if name in names[1:]]
    telling = [
        number for number, head in enumerate(grid.heads) if head.tells_apart and names[number] not in wanted
    ]
    every = [number for number, head in enumerate(grid.heads) if not head.on_demand]
    # What was asked for by name is not left out to fit.
    kept = grid.of(list(dict.fromkeys([0, *telling, *numbers])) if numbers or not whole else every)
    return Grid([replace(head, drop=0) for head in kept.heads], kept.sections)


def _footnotes(grids: Iterable[Grid], below: Sequence[str]) -> list[str]:
    """Those lines below whose letters stand in cells."""
    rows = (row for grid in grids for section in grid.sections for row in section.rows)
    letters = {cell.footnote for row in rows for cell in row}
    return [line for line in below if line.partition("  ")[0] in letters]


def _fields_of(
    name: str, names: Sequence[str], heads: Sequence[Head], option: str | None = None
) -> Sequence[str]:
    """Fields that a word means: its own, else those of the table's column."""
    by_name = {plain(one): one for one in names}
    if plain(name) in by_name:
        return [by_name[plain(name)]]
    found = [
        one for head in heads if plain(head.one_line) == plain(name) for one in head.fields if one in names
    ]
    if not found and option:
        raise unknown(name, option, list(names))
    return list(dict.fromkeys(found))
