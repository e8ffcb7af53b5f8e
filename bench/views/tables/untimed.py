"""The table of rows that nobody timed: what they need, predicted or measured once."""

from collections.abc import Mapping, Sequence

import msgspec

from bench.records.reading import Results
from bench.records.solo import MEMORY_KIND, MemoryFigure, Solo
from bench.suites.case import Case
from bench.views.tables.choice import chosen_rows
from bench.views.tables.footer import machine, setting_of
from bench.views.tables.footnotes import footnotes_of
from bench.views.tables.rows import rows_of
from bench.views.tables.table import Table, class_rank, model_names
from bench.views.tables.titles import title_of


def table_to_come(run: Results, *, ratios: bool, models: Sequence[str] | None = None) -> Table:
    """The untimed table of a run that found nothing yet: its rows and columns are right, its figures are not.

    Raises UsageError for a model that has no row.
    """
    suite, figure = run.header.suite, MemoryFigure(kind=MEMORY_KIND[run.kind], bytes=1)
    width = 1 if suite.hyperparameters.startswith("params:") else None
    cases = {case.id: case for case in suite.cases(run.kind)}
    solos = {
        name: Solo(case=case, status="ok", parameters=1, width=width, memory=[figure])
        for name, case in cases.items()
    }
    found = msgspec.structs.replace(run, solos=solos)
    return untimed_table(found, cases, [], predicted=False, ratios=ratios, models=models)


def untimed_table(
    run: Results,
    sized: Mapping[str, Case],
    notes: list[str],
    *,
    predicted: bool,
    ratios: bool,
    models: Sequence[str] | None = None,
) -> Table:
    """The table; the reason of each row that has no figure stands in a footnote.

    sized: by case, the one of the size that its figure is of. ratios: whether figures are of one size.
    models: those that have rows, by name or title; all by default. Raises UsageError.
    """
    suite = run.header.suite
    changes = ({} if ratios else {"memory_ratio": None}) | (
        {"peak_memory_kind": "predicted"} if predicted else {}
    )
    found = [
        msgspec.structs.replace(
            row, length=sized[row.case_id].length, batch=sized[row.case_id].batch, **changes
        )
        for row in rows_of(run, suite.baseline)
        if row.case_id in sized
    ]
    rows = sorted(chosen_rows(found, models, model_names), key=class_rank)
    footnotes = footnotes_of(rows, lambda row: row.reason or row.status)
    reasons = [f"{note.letter}  {note.text}" for note in dict.fromkeys(footnotes.values())]
    environment = run.header.environment
    footer = [setting_of(run, rows), f"{environment.hardware}, {machine(run)}"]
    title = title_of(suite.baseline)
    promised = (*(["memory_ratio"] if ratios else []), "peak_memory_bytes", "parameters")
    return Table(title, rows, footnotes, reasons + notes, footer, timed=False, promised=promised)
