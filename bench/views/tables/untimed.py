"""The table of rows that nobody timed: what they need, predicted or measured once."""

from collections.abc import Sequence

from bench.records.reading import Results
from bench.views.tables.notes import footnotes_of, machine, setting_of
from bench.views.tables.rows import Row, title_of
from bench.views.tables.table import Table, class_rank


def untimed_table(run: Results, rows: Sequence[Row], notes: list[str]) -> Table:
    """The table; the reason of each row that has no figure stands in a footnote."""
    rows = sorted(rows, key=class_rank)
    footnotes = footnotes_of(rows, lambda row: row.reason or row.status)
    reasons = [f"{note.letter}  {note.text}" for note in dict.fromkeys(footnotes.values())]
    environment = run.header.environment
    footer = [setting_of(run, rows), f"{environment.hardware}, {machine(run)}"]
    title = title_of(run.header.suite.baseline)
    return Table(title, rows, footnotes, reasons + notes, footer, timed=False)
