"""A table in a terminal: as wide as that is, its marks in bold, underline and colour."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tabulate import SEPARATING_LINE, tabulate

from bench.text.escape import escape_terminal, one_line
from bench.views.tables.grid import FAILED, Cell, Grid, Head, Section

BEST, SECOND, RED = "\x1b[1;32m", "\x1b[4m", "\x1b[31m"
RESET = "\x1b[0m"
LEAST = 12
"""Letters that a column of words keeps at least when it is made narrower."""


@dataclass(frozen=True)
class Screen:
    """Screen that a table is shown on. width: in letters; None for a file or pipe, which takes any length."""

    width: int | None = None
    marks: bool = False
    """Whether best, second best and failed figures are marked by escape sequences."""


def write(grids: Sequence[Grid], below: Sequence[str], screen: Screen) -> str:
    """The grids, what was left out of them, and the notes, wrapped at words."""
    parts = [text for grid in grids for text in _fitted(grid, screen)]
    notes = [_wrapped(line, screen.width) for line in below]
    return "\n\n".join([*parts, "\n".join(notes)] if notes else parts)


def _fitted(grid: Grid, screen: Screen) -> list[str]:
    """The grid as it fits: narrower columns of words, else fewer columns, else parts one below the other."""
    width = screen.width
    if width is None:
        return [_text(grid, screen)]
    grid, left_out = _narrowed(grid, width), []
    while _width(grid) > width and (droppable := [head for head in grid.heads if head.drop]):
        least = max(droppable, key=lambda head: head.drop)
        left_out.append(least.one_line)
        grid = _only(grid, [head for head in grid.heads if head is not least])
    parts = [_text(part, screen) for part in _stacked(grid, width)]
    if left_out:
        note = f"left out to fit {width} letters: {', '.join(left_out)}"
        parts[-1] += f"\n{_wrapped(note, width)}"
    return parts


def _narrowed(grid: Grid, width: int) -> Grid:
    """The grid with the cells of its columns of words wrapped until it fits, or no word would."""
    widths = {
        number: max((len(cells[number].text) for cells in grid.rows), default=0)
        for number, head in enumerate(grid.heads)
        if head.words
    }
    excess = _width(grid) - width
    while excess > 0 and widths and max(widths.values()) > LEAST:
        widths[max(widths, key=lambda number: widths[number])] -= 1
        excess -= 1

    def wrapped(cells: Sequence[Cell]) -> list[Cell]:
        return [
            replace(cell, text=_filled(cell.text, widths[number]), wrapped=True) if number in widths else cell
            for number, cell in enumerate(cells)
        ]

    return Grid(grid.heads, [Section(part.heading, list(map(wrapped, part.rows))) for part in grid.sections])


def _stacked(grid: Grid, width: int) -> list[Grid]:
    """The grid in parts that fit, each with the columns that say what a row is."""
    labels = [head for head in grid.heads if head.label] or list(grid.heads[:1])
    parts: list[list[Head]] = [[]]
    for head in (head for head in grid.heads if head not in labels):
        if parts[-1] and _width(_only(grid, [*labels, *parts[-1], head])) > width:
            parts.append([])
        parts[-1].append(head)
    return [_only(grid, [*labels, *part]) for part in parts]


def _only(grid: Grid, heads: Sequence[Head]) -> Grid:
    return grid.of([number for head in heads for number, other in enumerate(grid.heads) if other is head])


def _width(grid: Grid) -> int:
    return max(map(len, _text(grid, Screen()).splitlines()), default=0)


def _text(grid: Grid, screen: Screen) -> str:
    lines: list[list[str] | str] = []
    for section in grid.sections:
        if lines:
            lines.append(SEPARATING_LINE)
        if section.heading:
            lines.append([f"{section.heading}:", *[""] * (len(grid.heads) - 1)])
        lines += [[_cell(cell, screen.marks) for cell in cells] for cells in section.rows]
    return tabulate(
        lines,
        ["\n".join(map(_safe, head.text.split("\n", 1))) for head in grid.heads],
        "simple",
        colalign=[head.align for head in grid.heads] if lines else None,
        disable_numparse=True,
    )


def _cell(cell: Cell, marks: bool) -> str:
    text = "\n".join(map(_safe, cell.text.split("\n"))) if cell.wrapped else _safe(cell.text)
    text = f"{text} {cell.footnote}" if cell.footnote else text
    mark = {"best": BEST, "second": SECOND}.get(cell.rank or "", RED if cell.text == FAILED else "")
    return f"{mark}{text}{RESET}" if marks and mark else text


def _safe(text: str) -> str:
    return escape_terminal(one_line(text))


def _filled(text: str, width: int) -> str:
    return textwrap.fill(one_line(text), max(width, 1), break_long_words=False, break_on_hyphens=False)


def _wrapped(line: str, width: int | None) -> str:
    text = _safe(line)
    if width is None or len(text) <= width:
        return text
    return textwrap.fill(
        text, max(width, 20), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
