"""A table as text: terminal, markdown, LaTeX, CSV, HTML and JSON, all from the same rows."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, get_args

import msgspec
from tabulate import SEPARATING_LINE, tabulate

from bench.text.escape import escape_csv, escape_html, escape_latex, escape_markdown, one_line
from bench.views.tables.columns import Cell, Column, cells_of, columns_of
from bench.views.tables.rows import Row
from bench.views.tables.table import Table

Format = Literal["terminal", "markdown", "latex", "csv", "html", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)

RANKS = "Bold: best of its column; underlined: second best. Intervals of neighbours may overlap."


@dataclass(frozen=True)
class Section:
    """Rows that stand together: one panel, one complexity class."""

    heading: str | None
    rows: list[list[Cell]]


def render(table: Table, form: Format) -> str:
    """The whole table as text, without a newline at its end."""
    match form:
        case "json":
            return msgspec.json.format(msgspec.json.encode(table.rows), indent=2).decode()
        case "csv":
            return _csv(table.rows)
        case "terminal":
            return _terminal(table)
        case "markdown":
            return _markdown(table)
        case "latex":
            return _latex(table)
        case "html":
            return _html(table)


def sections_of(table: Table, columns: Sequence[Column]) -> Iterator[Section]:
    """The rows by panel and, where the table has several complexity classes, by class."""
    rows = zip(table.rows, cells_of(table, columns), strict=True)
    for (_, complexity), group in groupby(rows, key=lambda pair: (pair[0].panel, _class(table, pair[0]))):
        yield Section(complexity, [cells for _, cells in group])


def _class(table: Table, row: Row) -> str | None:
    return row.complexity if table.grouped else None


def _terminal(table: Table) -> str:
    columns = columns_of(table)
    lines: list[list[str] | str] = []
    for section in sections_of(table, columns):
        if lines:
            lines.append(SEPARATING_LINE)
        if section.heading:
            lines.append([f"{section.heading}:", *[""] * (len(columns) - 1)])
        lines += [[_plain(cell) for cell in cells] for cells in section.rows]
    body = tabulate(
        lines,
        [_header(column) for column in columns],
        "simple",
        colalign=[column.align for column in columns],
        disable_numparse=True,
    )
    return "\n".join([body, "", *map(one_line, (*table.notes, *table.footer))])


def _header(column: Column) -> str:
    """Two lines at most, as the column has them."""
    return "\n".join(map(one_line, column.header.split("\n", 1)))


def _plain(cell: Cell) -> str:
    text = one_line(cell.text)
    return f"{text} {cell.footnote}" if cell.footnote else text


def _markdown(table: Table) -> str:
    columns = columns_of(table)
    head = [escape_markdown(column.one_line) for column in columns]
    rule = [":---" if column.align == "left" else "---:" for column in columns]
    lines = [head, rule]
    for section in sections_of(table, columns):
        if section.heading:
            lines.append([f"*{escape_markdown(section.heading)}*", *[""] * (len(columns) - 1)])
        lines += [[_markdown_cell(cell) for cell in cells] for cells in section.rows]
    below = [f"- {escape_markdown(line)}" for line in (*table.notes, *table.footer, RANKS)]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *below])


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text) + (f"<sup>{cell.footnote}</sup>" if cell.footnote else "")
    return {"best": f"**{text}**", "second": f"<u>{text}</u>", None: text}[cell.rank]


def _latex(table: Table) -> str:
    """A tabular that needs booktabs only, with its notes in small print below."""
    columns = columns_of(table)
    lines = [
        f"\\begin{{tabular}}{{@{{}}{''.join(column.align[0] for column in columns)}@{{}}}}",
        r"\toprule",
        _latex_line([escape_latex(column.one_line) for column in columns]),
        r"\midrule",
    ]
    for number, section in enumerate(sections_of(table, columns)):
        if number:
            lines.append(r"\midrule")
        if section.heading:
            heading = escape_latex(section.heading)
            lines.append(rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{\textit{{{heading}}}}} \\")
        lines += [_latex_line([_latex_cell(cell) for cell in cells]) for cells in section.rows]
    lines += [r"\bottomrule", r"\end{tabular}", "", r"{\footnotesize\raggedright"]
    lines += [rf"\noindent {escape_latex(line)}\par" for line in (*table.notes, *table.footer, RANKS)]
    return "\n".join([*lines, "}"])


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text) + (rf"\textsuperscript{{{cell.footnote}}}" if cell.footnote else "")
    return {"best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}", None: text}[cell.rank]


def _html(table: Table) -> str:
    columns = columns_of(table)
    head = "".join(f"<th>{escape_html(column.one_line)}</th>" for column in columns)
    lines = ["<table>", f"<thead>\n<tr>{head}</tr>\n</thead>"]
    for section in sections_of(table, columns):
        lines.append("<tbody>")
        if section.heading:
            lines.append(f'<tr><th colspan="{len(columns)}">{escape_html(section.heading)}</th></tr>')
        lines += [f"<tr>{''.join(map(_html_cell, cells, columns))}</tr>" for cells in section.rows]
        lines.append("</tbody>")
    below = (*table.notes, *table.footer, RANKS)
    return "\n".join([*lines, "</table>", *(f"<p>{escape_html(line)}</p>" for line in below)])


def _html_cell(cell: Cell, column: Column) -> str:
    text = escape_html(cell.text) + (f"<sup>{cell.footnote}</sup>" if cell.footnote else "")
    marked = {"best": f"<b>{text}</b>", "second": f"<u>{text}</u>", None: text}[cell.rank]
    return f'<td style="text-align: {column.align}">{marked}</td>'


def _csv(rows: list[Row]) -> str:
    """Every figure in full, a column each; empty where not measured."""
    nested = {"activation_by_layer", "published_accuracy"}
    names = [name for name in Row.__struct_fields__ if name not in nested]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([escape_csv(getattr(row, name)) for name in names] for row in rows)
    return text.getvalue().rstrip("\n")
