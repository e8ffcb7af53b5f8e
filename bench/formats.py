"""A table as text: terminal, markdown, LaTeX, CSV, HTML and JSON, all from the same rows."""

import csv
import html
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec
from tabulate import tabulate

from bench.tables import Row, Table
from bench.units import format_bytes, format_count, format_ratio

Format = Literal["terminal", "markdown", "latex", "csv", "html", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)

MISSING = "–"
FAILED = "X"


@dataclass(frozen=True)
class Column:
    """A header and what a row shows below it. `timed` columns show an X for a model that failed."""

    header: str
    cell: Callable[[Row], str | None]
    timed: bool = False
    align: Literal["left", "right"] = "right"

    def text(self, row: Row) -> str:
        if self.timed and row.status != "ok":
            return FAILED
        value = self.cell(row)
        return MISSING if value is None else value


def render(table: Table, form: Format) -> str:
    """The whole table as text, without a newline at its end."""
    if form == "json":
        return msgspec.json.format(msgspec.json.encode(table.rows), indent=2).decode()
    if form == "csv":
        return _csv(table.rows)
    columns = _columns(table)
    headers = [
        column.header if form == "terminal" else column.header.replace("\n", " ") for column in columns
    ]
    cells = [[column.text(row) for column in columns] for row in table.rows]
    style = {"terminal": "simple", "markdown": "pipe", "latex": "latex_booktabs", "html": "html"}[form]
    body = tabulate(
        cells, headers, style, colalign=[column.align for column in columns], disable_numparse=True
    )
    return _below(body, table, form)


def _below(body: str, table: Table, form: Format) -> str:
    """The table with its notes and footer, as the format has comments and paragraphs."""
    lines = [*table.notes, *table.footer]
    if form == "latex":
        return "\n".join([body, *(f"% {line}" for line in lines)])
    if form == "html":
        return "\n".join([body, *(f"<p>{html.escape(line)}</p>" for line in lines)])
    if form == "markdown":
        return "\n".join([body, "", *(f"- {line}" for line in lines)])
    return "\n".join([body, "", *lines])


def _columns(table: Table) -> list[Column]:
    rows = table.rows
    columns = [Column("Model", lambda row: row.title, align="left")]
    if len({row.length for row in rows}) > 1:
        columns.append(Column("Length", lambda row: str(row.length)))
    columns += [
        Column(f"Speed\n(× {table.baseline})", lambda row: _ratio(row.speed_ratio), timed=True),
        Column("95% interval", _interval, timed=True),
        Column(f"Mem\n(× {table.baseline})", lambda row: _ratio(row.memory_ratio), timed=True),
    ]
    if any(row.published_speed is not None for row in rows):
        columns += [
            Column("Published\nspeed", lambda row: _ratio(row.published_speed)),
            Column("Published\nmem", lambda row: _ratio(row.published_memory)),
        ]
    return [
        *columns,
        Column("ms/step", _milliseconds, timed=True),
        Column("tokens/s", lambda row: _count(row.tokens_per_second), timed=True),
        Column("real\ntokens/s", lambda row: _count(row.real_tokens_per_second), timed=True),
        Column("Peak\nmemory", _peak_memory),
        Column("Params", lambda row: _count(row.parameters)),
        Column(
            "Activation", lambda row: None if row.activation_rate is None else f"{row.activation_rate:.1%}"
        ),
    ]


def _ratio(value: float | None) -> str | None:
    return None if value is None else format_ratio(value)


def _interval(row: Row) -> str | None:
    if row.speed_low is None or row.speed_high is None:
        return None
    return f"{format_ratio(row.speed_low)} to {format_ratio(row.speed_high)}"


def _milliseconds(row: Row) -> str | None:
    if row.step_seconds is None:
        return None
    value = row.step_seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _count(value: float | None) -> str | None:
    return None if value is None else format_count(value)


def _peak_memory(row: Row) -> str | None:
    return None if row.peak_memory_bytes is None else format_bytes(row.peak_memory_bytes)


def _csv(rows: list[Row]) -> str:
    """Every figure in full, a column each; empty where not measured."""
    names = [name for name in Row.__struct_fields__ if name != "activation_by_layer"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in rows)
    return text.getvalue().rstrip("\n")
