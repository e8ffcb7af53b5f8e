"""The report's table: a section for each length with the groups of the terminal's table; help for columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from bench.views import headline
from bench.views.tables.column import Column
from bench.views.tables.grid import Align, Cell
from bench.views.tables.naming import LENGTH, SETTINGS
from bench.views.tables.row import Row
from bench.views.tables.table import Table

WORDS: Mapping[str, str] = {
    "X": "Did not finish, or computed something else than it should; the letter leads to the reason.",
    "–": "Not measured. No figure is made up for it.",
    "Baseline": "The model that ratios are to: its own speed and memory are 1.",
    "Block": "One fresh process for every model, timed in turns. Blocks are what an interval is taken over.",
    "Alone": "What a case took in a process of its own, before it was timed beside others.",
    "Stationary": "Whether the time of a step had stopped falling when the warm-up ended.",
}
"""Words of the page that are not a column."""


@dataclass(frozen=True)
class Heading:
    """A column of the page."""

    name: str
    align: Align
    help: str
    published: bool
    first: Literal["ascending", "descending"]
    """Order at the first click: the best first, and names by the alphabet."""


@dataclass(frozen=True)
class Line:
    """A row of the page. tip: what lies behind it."""

    row: Row
    tip: str
    cells: list[tuple[Heading, Cell]]


@dataclass(frozen=True)
class Group:
    """Rows that stand together, as in the terminal's table."""

    heading: str | None
    lines: list[Line]


@dataclass(frozen=True)
class Part:
    """The rows of one length. heading: None if there is only one length."""

    length: int
    heading: str | None
    sentences: list[str]
    groups: list[Group]


def columns(table: Table) -> list[Heading]:
    """Columns: what was measured first, then what papers print; the length is said by the section."""
    return [_heading(column) for column in _columns(table)]


def _columns(table: Table) -> list[Column]:
    equal = {one.header for one in SETTINGS if not one.tells(table.rows)} | {LENGTH.header}
    shown = [column for column in table.columns if column.header not in equal]
    known = [c for c in shown if not c.published or any(c.show(row) is not None for row in table.rows)]
    return sorted(known, key=lambda column: column.published)


def _heading(column: Column) -> Heading:
    words = column.value is None or column.head.label
    first: Literal["ascending", "descending"] = "ascending" if words or column.best is min else "descending"
    return Heading(column.head.one_line, column.align, column.help, column.published, first)


def classes(table: Table) -> list[str]:
    """Classes of complexity, if there are several."""
    found = list(dict.fromkeys(row.complexity for row in table.rows))
    return found if len(found) > 1 else []


def sections(table: Table, baseline: str) -> list[Part]:
    """The table in parts. baseline: name of the model that ratios are to."""
    wanted = _columns(table)
    headings = [_heading(column) for column in wanted]
    lines = []
    for number, (row, cells) in enumerate(zip(table.rows, table.cells(wanted), strict=True)):
        footnote = table.footnotes.get(number)
        tip = footnote.text if footnote else f"{row.case_id}, {row.blocks} blocks, {row.run}"
        lines.append(Line(row, tip, list(zip(headings, cells, strict=True))))
    lengths = sorted({row.length for row in table.rows})
    grouped = bool(classes(table))
    parts = []
    for length in lengths:
        own = [line for line in lines if line.row.length == length]
        heading = f"Length {length}" if len(lengths) > 1 else None
        sentences = headline.sentences([line.row for line in own], baseline)
        parts.append(Part(length, heading, sentences, _groups(own, grouped)))
    return parts


def _groups(lines: Sequence[Line], grouped: bool) -> list[Group]:
    def key(line: Line) -> tuple[object, str | None]:
        return (line.row.panel, line.row.complexity if grouped else None)

    return [Group(found[1], list(same)) for found, same in groupby(lines, key=key)]


def result(parts: Sequence[Part], baseline: str) -> list[str]:
    """Lines on top: the result at the longest length at which there is a ratio."""

    def is_compared(part: Part) -> bool:
        rows = (line.row for group in part.groups for line in group.lines)
        return any(row.speed_ratio is not None and row.model != baseline for row in rows)

    last = (list(filter(is_compared, parts)) or parts)[-1]
    return (
        last.sentences
        if last.heading is None
        else [f"At length {last.length}: {one}" for one in last.sentences]
    )


def notes(table: Table) -> list[tuple[str | None, str]]:
    """Each note, with the letter of the footnote that it is."""
    letters = [note.letter for note in dict.fromkeys(table.footnotes.values())]
    return [
        (letters[number] if number < len(letters) else None, note) for number, note in enumerate(table.notes)
    ]
