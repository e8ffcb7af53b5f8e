"""A table as text: terminal, markdown, LaTeX, HTML, CSV or JSON; text from files stays text in each."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol, get_args

import msgspec
from tabulate import SEPARATING_LINE

from bench.errors import UsageError
from bench.text.escape import escape_csv, escape_html, escape_latex, escape_markdown, one_line
from bench.text.text_table import text_table
from bench.views.tables.grid import Cell, Grid, Head

Format = Literal["terminal", "markdown", "latex", "csv", "html", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)

RANKS = "Bold: best of its column; underlined: second best. Intervals of neighbours may overlap."


class Tabular(Protocol):
    """What has a table to show."""

    @property
    def rows(self) -> Sequence[msgspec.Struct]:
        """Every figure in full, for JSON."""

    def figures(self) -> Iterable[Sequence[object]]:
        """Every figure in full, for CSV: names, then lines of values; None where nothing was measured."""

    def grids(self) -> list[Grid]:
        """What people read, in one grid or several, one below the other."""

    @property
    def below(self) -> list[str]:
        """Notes, a line each."""


def render(table: Tabular, form: str) -> str:
    """The whole table as text, without a newline at its end. Raises UsageError for an unknown format."""
    if form == "json":
        return msgspec.json.format(msgspec.json.encode(table.rows), indent=2).decode()
    if form == "csv":
        return _csv(table.figures())
    if form not in _WRITERS:
        raise UsageError(f"table format {form}: choose {', '.join(FORMATS)}")
    return _WRITERS[form](table.grids(), table.below)


def _csv(lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(escape_csv, line) for line in lines)
    return text.getvalue().rstrip("\n")


def _terminal(grids: Sequence[Grid], below: Sequence[str]) -> str:
    return "\n\n".join([*map(_terminal_grid, grids), "\n".join(map(one_line, below))])


def _terminal_grid(grid: Grid) -> str:
    lines: list[list[str] | str] = []
    for section in grid.sections:
        if lines:
            lines.append(SEPARATING_LINE)
        if section.heading:
            lines.append([f"{section.heading}:", *[""] * (len(grid.heads) - 1)])
        lines += [[_plain(cell) for cell in cells] for cells in section.rows]
    heads = ["\n".join(map(one_line, head.text.split("\n", 1))) for head in grid.heads]
    return text_table(lines, heads, [head.align for head in grid.heads])


def _plain(cell: Cell) -> str:
    return f"{cell.text} {cell.footnote}" if cell.footnote else cell.text


def _markdown(grids: Sequence[Grid], below: Sequence[str]) -> str:
    notes = [f"- {escape_markdown(line)}" for line in _with_ranks(grids, below)]
    return "\n\n".join([*map(_markdown_grid, grids), "\n".join(notes)])


def _markdown_grid(grid: Grid) -> str:
    lines = [
        [escape_markdown(head.one_line) for head in grid.heads],
        [":---" if head.align == "left" else "---:" for head in grid.heads],
    ]
    for section in grid.sections:
        if section.heading:
            lines.append([f"*{escape_markdown(section.heading)}*", *[""] * (len(grid.heads) - 1)])
        lines += [[_markdown_cell(cell) for cell in cells] for cells in section.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text) + (f"<sup>{cell.footnote}</sup>" if cell.footnote else "")
    return {"best": f"**{text}**", "second": f"<u>{text}</u>", None: text}[cell.rank]


def _latex(grids: Sequence[Grid], below: Sequence[str]) -> str:
    """A tabular per grid, which need booktabs only, with the notes in small print below."""
    notes = [rf"\noindent {escape_latex(line)}\par" for line in _with_ranks(grids, below)]
    return "\n\n".join([*map(_latex_grid, grids), "\n".join([r"{\footnotesize\raggedright", *notes, "}"])])


def _latex_grid(grid: Grid) -> str:
    lines = [
        f"\\begin{{tabular}}{{@{{}}{''.join(head.align[0] for head in grid.heads)}@{{}}}}",
        r"\toprule",
        _latex_line([escape_latex(head.one_line) for head in grid.heads]),
        r"\midrule",
    ]
    for number, section in enumerate(grid.sections):
        if number:
            lines.append(r"\midrule")
        if section.heading:
            heading = escape_latex(section.heading)
            lines.append(rf"\multicolumn{{{len(grid.heads)}}}{{@{{}}l}}{{\textit{{{heading}}}}} \\")
        lines += [_latex_line([_latex_cell(cell) for cell in cells]) for cells in section.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text) + (rf"\textsuperscript{{{cell.footnote}}}" if cell.footnote else "")
    return {"best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}", None: text}[cell.rank]


def _html(grids: Sequence[Grid], below: Sequence[str]) -> str:
    notes = [f"<p>{escape_html(line)}</p>" for line in _with_ranks(grids, below)]
    return "\n".join([*map(_html_grid, grids), *notes])


def _html_grid(grid: Grid) -> str:
    head = "".join(f"<th>{escape_html(head.one_line)}</th>" for head in grid.heads)
    lines = ["<table>", f"<thead>\n<tr>{head}</tr>\n</thead>"]
    for section in grid.sections:
        lines.append("<tbody>")
        if section.heading:
            lines.append(f'<tr><th colspan="{len(grid.heads)}">{escape_html(section.heading)}</th></tr>')
        lines += [f"<tr>{''.join(map(_html_cell, cells, grid.heads))}</tr>" for cells in section.rows]
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>"])


def _html_cell(cell: Cell, head: Head) -> str:
    text = escape_html(cell.text) + (f"<sup>{cell.footnote}</sup>" if cell.footnote else "")
    marked = {"best": f"<b>{text}</b>", "second": f"<u>{text}</u>", None: text}[cell.rank]
    return f'<td style="text-align: {head.align}">{marked}</td>'


def _with_ranks(grids: Sequence[Grid], below: Sequence[str]) -> list[str]:
    return [*below, RANKS] if any(grid.ranked for grid in grids) else [*below]


_WRITERS: Mapping[str, Callable[[Sequence[Grid], Sequence[str]], str]] = {
    "terminal": _terminal,
    "markdown": _markdown,
    "latex": _latex,
    "html": _html,
}
