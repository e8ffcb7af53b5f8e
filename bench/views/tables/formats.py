"""A table as text: terminal, markdown, LaTeX, HTML, CSV or JSON; text from files stays text in each."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from bench.errors import UsageError
from bench.text.escape import (
    escape_csv,
    escape_html,
    escape_latex,
    escape_markdown,
    escape_terminal,
    one_line,
)
from bench.views.tables import terminal
from bench.views.tables.choice import Choice
from bench.views.tables.grid import Cell, Grid, Head, Tabular
from bench.views.tables.terminal import Screen

Format = Literal["terminal", "markdown", "latex", "csv", "html", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)

RANKS = "Bold: best of its column; underlined: second best. Intervals of neighbours may overlap."


def render(table: Tabular, form: str, choice: Choice | None = None, screen: Screen | None = None) -> str:
    """The whole table as text, without a newline at its end.

    choice: what of it. screen: for a terminal, where it is shown. Raises UsageError for an unknown format, or
    a choice of what the table lacks.
    """
    choice, screen = choice or Choice(), screen or Screen()
    if form == "csv":
        return _csv(choice.figures(table))
    if form == "json":
        return _json(table.record(choice.objects(table)))
    if form not in FORMATS:
        raise UsageError(f"table format {form}: choose {', '.join(FORMATS)}")
    grids, below = choice.of(table)
    above = "".join(_ABOVE[form](line) for line in table.above)
    if choice.notes and (form != "terminal" or (screen.marks and below)):
        below = _with_ranks(grids, below)
    if form == "terminal":
        return above + terminal.write(grids, below, screen)
    return above + _WRITERS[form](grids, below).rstrip("\n")


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _csv(lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(map(escape_csv, line) for line in lines)
    return text.getvalue().rstrip("\n")


def _markdown(grids: Sequence[Grid], below: Sequence[str]) -> str:
    notes = [f"- {escape_markdown(line)}" for line in below]
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
    """A tabular per grid, which need booktabs only; the notes are a macro, so that a \\resizebox has none.

    `\\benchnotes` prints them where the author wants them.
    """
    lines = [rf"\noindent {escape_latex(line)}\par" for line in below]
    notes = "\n".join([r"\long\gdef\benchnotes{\footnotesize\raggedright", *lines, "}%"])
    return "\n\n".join(map(_latex_grid, grids)) + (f"%\n{notes}" if below else "")


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
    notes = [f"<p>{escape_html(line)}</p>" for line in below]
    return "\n".join([*map(_html_grid, grids), *notes])


def _html_grid(grid: Grid) -> str:
    head = "".join(f"<th>{escape_html(head.one_line)}</th>" for head in grid.heads)
    lines = ["<table>", f"<thead>\n<tr>{head}</tr>\n</thead>"]
    for section in grid.sections:
        lines.append("<tbody>")
        if section.heading:
            words = escape_html(section.heading)
            lines.append(f'<tr><th colspan="{len(grid.heads)}" style="text-align: left">{words}</th></tr>')
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
    "markdown": _markdown,
    "latex": _latex,
    "html": _html,
}
_ABOVE: Mapping[str, Callable[[str], str]] = {
    "terminal": lambda line: f"{escape_terminal(one_line(line))}\n",
    "markdown": lambda line: f"**{escape_markdown(line)}**\n\n",
    "latex": lambda line: rf"\noindent\textbf{{{escape_latex(line)}}}\par" + "\n",
    "html": lambda line: f"<p><strong>{escape_html(line)}</strong></p>\n",
}
