"""The table of a collection: a row for each model, a column for each task, and the average over the tasks.

A view on records. The average is over all tasks or is not there: one of fewer tasks would be another figure.
Ratios are averaged by their logarithms, as those of blocks are, so that no baseline is favoured.
"""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from math import exp, log

import msgspec
from tabulate import tabulate

from bench.columns import FAILED, MISSING
from bench.errors import UsageError
from bench.formats import Format
from bench.published import TASKS
from bench.result_file import Results
from bench.rows import MEMORY_KIND, Row, kind_of, rows_of, title_of
from bench.tables import MEMORY_KIND_NAMES, common_baseline, explain, machine
from bench.units import format_ratio

ARENA = tuple(name for name in TASKS if name != "average")
TABULATE = {"terminal": "simple", "markdown": "github", "latex": "latex_booktabs", "html": "html"}


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """Ratios of one model to the baseline, by task; None where not measured."""

    model: str
    title: str
    complexity: str
    activation_set: float | None
    speed: dict[str, float | None]
    speed_average: float | None
    memory: dict[str, float | None]
    memory_average: float | None
    failed: dict[str, str]
    """Why there is no figure, for the tasks on which the model was tried in vain."""


class TaskTable(msgspec.Struct, frozen=True):
    """Rows in the order of the published table, and the lines below them."""

    baseline: str
    """Title of the model that ratios are to."""
    tasks: list[str]
    rows: list[TaskRow]
    notes: list[str]


def build(runs: Sequence[Results], baseline: str | None = None) -> TaskTable:
    """The table of runs of one length each, on one machine, every one of another workload.

    Raises UsageError where they are not, and where a run lacks the baseline.
    """
    by_task = _by_task(runs)
    name = baseline or common_baseline(runs)
    tasks = list(ARENA) if set(by_task) <= set(ARENA) else list(by_task)
    rows = {task: rows_of(run, name) for task, run in by_task.items()}
    models: dict[tuple[str, float | None], dict[str, Row]] = {}
    for task, found in rows.items():
        for row in found:
            models.setdefault((row.model, row.activation_set), {})[task] = row
    made = [_row(found, tasks) for found in models.values()]
    return TaskTable(title_of(name), tasks, made, _notes(runs, tasks, by_task, made))


def render(table: TaskTable, form: Format) -> str:
    """The whole table as text, without a newline at its end."""
    if form == "json":
        return msgspec.json.format(msgspec.json.encode(table.rows), indent=2).decode()
    if form == "csv":
        return _csv(table)
    blocks = []
    for heading, figure in (
        (f"Speed (× {table.baseline})", "speed"),
        (f"Mem (× {table.baseline})", "memory"),
    ):
        lines = [[row.title, *_setting(row, table), *_cells(row, figure, table.tasks)] for row in table.rows]
        head = [
            heading,
            *(["Activation"] if _has_rates(table) else []),
            *map(_header, table.tasks),
            "Average",
        ]
        align = ["left", *["right"] * (len(head) - 1)]
        blocks.append(tabulate(lines, head, TABULATE[form], colalign=align, disable_numparse=True))
    before, after = {"markdown": ("- ", ""), "html": ("<p>", "</p>")}.get(form, ("", ""))
    notes = [f"{before}{note}{after}" for note in table.notes]
    return "\n\n".join([*blocks, "\n".join(notes)])


def of_one_machine(runs: Sequence[Results]) -> bool:
    """Whether runs may be averaged over: on a cluster a file may hold several kinds of device."""
    return len({run.header.environment.machine for run in runs}) == 1


def _by_task(runs: Sequence[Results]) -> dict[str, Results]:
    if not of_one_machine(runs):
        raise UsageError(
            "the runs are of several machines: an average over them is none; "
            "give the files themselves for a row of each"
        )
    by_task: dict[str, Results] = {}
    for run in runs:
        suite = run.header.suite
        task = suite.workload.replace("-", "_")
        if task in by_task:
            raise UsageError(
                f"{by_task[task].path} and {run.path} are both of {suite.workload}: give one of each task"
            )
        if len(suite.lengths) > 1:
            raise UsageError(f"{run.path}: has several lengths; a table by task takes one")
        by_task[task] = run
    return {task: by_task[task] for task in sorted(by_task, key=_place)}


def _place(task: str) -> int:
    return ARENA.index(task) if task in ARENA else len(ARENA)


def _row(found: Mapping[str, Row], tasks: Sequence[str]) -> TaskRow:
    one = next(iter(found.values()))
    speed = {task: found[task].speed_ratio if task in found else None for task in tasks}
    memory = {task: found[task].memory_ratio if task in found else None for task in tasks}
    return TaskRow(
        model=one.model,
        title=one.title,
        complexity=one.complexity,
        activation_set=one.activation_set,
        speed=speed,
        speed_average=_average(list(speed.values())),
        memory=memory,
        memory_average=_average(list(memory.values())),
        failed={task: explain(row) for task, row in found.items() if row.status != "ok"},
    )


def _average(ratios: Sequence[float | None]) -> float | None:
    known = [ratio for ratio in ratios if ratio is not None]
    return exp(statistics.fmean(map(log, known))) if known and len(known) == len(ratios) else None


def _notes(
    runs: Sequence[Results], tasks: Sequence[str], by_task: Mapping[str, Results], rows: Sequence[TaskRow]
) -> list[str]:
    notes = [
        f"X  {row.title} on {_header(task)}: {reason}" for row in rows for task, reason in row.failed.items()
    ]
    absent = [_header(task) for task in tasks if task not in by_task]
    if absent:
        notes.append(f"no averages: {', '.join(absent)} was not run")
    elif any(row.speed_average is None for row in rows):
        notes.append(f"{MISSING}  not measured; no average where a task is missing")
    kinds = dict.fromkeys(MEMORY_KIND_NAMES[MEMORY_KIND[kind_of(run)]] for run in runs)
    return [
        *notes,
        "Average: geometric mean of the ratios over all tasks",
        f"Mem: {'; '.join(kinds)}",
        *(
            f"{_header(task)}: {run.header.suite.name}, data: {run.header.data}"
            for task, run in by_task.items()
        ),
        *dict.fromkeys(f"{run.header.environment.hardware}, {machine(run)}" for run in runs),
    ]


def _header(task: str) -> str:
    return TASKS.get(task, task)


def _has_rates(table: TaskTable) -> bool:
    by_model: dict[str, set[float | None]] = {}
    for row in table.rows:
        by_model.setdefault(row.model, set()).add(row.activation_set)
    return any(len(rates) > 1 for rates in by_model.values())


def _setting(row: TaskRow, table: TaskTable) -> list[str]:
    if not _has_rates(table):
        return []
    return [MISSING if row.activation_set is None else f"{row.activation_set:g}"]


def _cells(row: TaskRow, figure: str, tasks: Sequence[str]) -> list[str]:
    values: dict[str, float | None] = getattr(row, figure)
    cells = [
        FAILED if task in row.failed else MISSING if value is None else format_ratio(value)
        for task in tasks
        for value in [values[task]]
    ]
    average: float | None = getattr(row, f"{figure}_average")
    return [*cells, MISSING if average is None else format_ratio(average)]


def _csv(table: TaskTable) -> str:
    """Every figure in full, a line for each model and figure; empty where not measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "activation_set", "figure", *table.tasks, "average"])
    for row in table.rows:
        for figure, values, average in (
            ("speed", row.speed, row.speed_average),
            ("memory", row.memory, row.memory_average),
        ):
            writer.writerow(
                [row.model, row.activation_set, figure, *(values[task] for task in table.tasks), average]
            )
    return text.getvalue().rstrip("\n")
