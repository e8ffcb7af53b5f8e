"""The table of a collection: a row for each model, a column for each task, and the average over the tasks.

A view on records. The average is over all tasks or is not there: one of fewer tasks would be another figure.
Ratios are averaged by their logarithms, as those of blocks are, so that no baseline is favoured.
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from bench.errors import UsageError
from bench.records.published import TASKS
from bench.records.reading import Results
from bench.records.solo import MEMORY_KIND
from bench.stats.intervals import Interval, average_ratio
from bench.text.units import format_interval, format_ratio
from bench.views.tables.choice import chosen_rows
from bench.views.tables.footer import MEMORY_KIND_NAMES, machine
from bench.views.tables.footnotes import explain
from bench.views.tables.grid import FAILED, MISSING, Cell, Grid, Head, Section, Tabular
from bench.views.tables.notes import comparison_notes
from bench.views.tables.row import Row
from bench.views.tables.rows import rows_of
from bench.views.tables.table import baseline_of, model_names
from bench.views.tables.titles import title_of

ARENA = tuple(name for name in TASKS if name != "average")
T = TypeVar("T")
Figures = Sequence[tuple[str | None, float | None]]
"""Figures of a row, for each task and the average, and the value that it is sorted by there."""


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """Ratios of one model to the baseline, by task; None if not measured.

    Intervals are of 95%; None too if a task has too few blocks.
    """

    model: str
    title: str
    complexity: str
    activation_set: float | None
    speed: dict[str, float | None]
    speed_low: dict[str, float | None]
    speed_high: dict[str, float | None]
    speed_average: float | None
    speed_average_low: float | None
    speed_average_high: float | None
    memory: dict[str, float | None]
    memory_average: float | None
    failed: dict[str, str]
    """Why there is no figure, for the tasks on which the model was tried in vain."""


@dataclass(frozen=True)
class TaskTable(Tabular):
    """Rows in the order of the published table, and the lines below them."""

    baseline: str
    """Title of the model that ratios are to."""
    tasks: list[str]
    rows: list[TaskRow]
    notes: list[str]

    @property
    def below(self) -> list[str]:
        return self.notes

    def grids(self, digits: int | None = None) -> list[Grid]:
        """Speed, its intervals if there are any, and memory: a column for each task, and the average."""
        speed = [_ratios((*row.speed.values(), row.speed_average), digits) for row in self.rows]
        intervals = [_intervals(row, digits) for row in self.rows]
        memory = [_ratios((*row.memory.values(), row.memory_average), digits) for row in self.rows]
        measured = any(word for words in intervals for word, _ in words)
        return [
            self._grid(f"Speed (× {self.baseline})", speed, most_first=True),
            *([self._grid("95% interval of speed", intervals, most_first=True)] if measured else []),
            self._grid(f"Mem (× {self.baseline})", memory),
        ]

    def _grid(self, heading: str, figures: Sequence[Figures], most_first: bool = False) -> Grid:
        rates = {(row.model, row.activation_set) for row in self.rows}
        several = len(rates) > len({model for model, _ in rates})
        heads = [
            Head(heading, "left", label=True, fields=("model",)),
            *([Head("Activation", label=True, fields=("activation_set",))] if several else []),
            *(Head(_header(task), most_first=most_first, fields=(task,)) for task in self.tasks),
            Head("Average", most_first=most_first, fields=("average",)),
        ]
        rows = [
            [Cell(row.title, name=row.model), *([_rate(row)] if several else []), *_cells(row, words)]
            for row, words in zip(self.rows, figures, strict=True)
        ]
        return Grid(heads, [Section(None, rows)])

    def figures(self, rows: Sequence[TaskRow]) -> Iterator[list[object]]:
        """Every figure in full, a line for each model and figure."""
        yield ["model", "activation_set", "figure", *self.tasks, "average"]
        for row in rows:
            for figure, values, average in (
                ("speed", row.speed, row.speed_average),
                ("speed_low", row.speed_low, row.speed_average_low),
                ("speed_high", row.speed_high, row.speed_average_high),
                ("memory", row.memory, row.memory_average),
            ):
                yield [row.model, row.activation_set, figure, *values.values(), average]


def build(
    runs: Sequence[Results], baseline: str | None = None, models: Sequence[str] | None = None
) -> TaskTable:
    """The table of runs of one length each, on one machine, every one of another workload.

    Raises UsageError if they are not, or if a run lacks the baseline.
    """
    by_task = _by_task(runs)
    name = baseline_of(runs, baseline)
    tasks = list(ARENA) if set(by_task) <= set(ARENA) else list(by_task)
    rows = {task: rows_of(run, name) for task, run in by_task.items()}
    kept = chosen_rows([row for found in rows.values() for row in found], models, model_names)
    names = {row.model for row in kept}
    by_model: dict[tuple[str, float | None], dict[str, Row]] = {}
    for task, found in rows.items():
        for row in (row for row in found if row.model in names):
            by_model.setdefault((row.model, row.activation_set), {})[task] = row
    made = [_row(found, tasks) for found in by_model.values()]
    missing = [
        f"{_header(task)}: {note}"
        for task, found in rows.items()
        for note in comparison_notes(found, name, [by_task[task]])
    ]
    return TaskTable(title_of(name), tasks, made, [*_notes(runs, tasks, by_task, made), *missing])


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
        for axis in suite.choices(run.kind):
            raise UsageError(f"{run.path}: has more than one {axis}; a table by task takes one")
        by_task[task] = run
    return {task: by_task[task] for task in sorted(by_task, key=_place)}


def _place(task: str) -> int:
    return ARENA.index(task) if task in ARENA else len(ARENA)


def _row(found: Mapping[str, Row], tasks: Sequence[str]) -> TaskRow:
    one = next(iter(found.values()))
    speed = {task: _speed(found[task]) if task in found else None for task in tasks}
    memory = {task: found[task].memory_ratio if task in found else None for task in tasks}
    speeds, memories = _all(speed.values()), _all(memory.values())
    average = average_ratio(speeds) if speeds else None
    return TaskRow(
        model=one.model,
        title=one.title,
        complexity=one.complexity,
        activation_set=one.activation_set,
        speed={task: None if each is None else each.ratio for task, each in speed.items()},
        speed_low={task: None if each is None else each.low for task, each in speed.items()},
        speed_high={task: None if each is None else each.high for task, each in speed.items()},
        speed_average=None if average is None else average.ratio,
        speed_average_low=None if average is None else average.low,
        speed_average_high=None if average is None else average.high,
        memory=memory,
        memory_average=statistics.geometric_mean(memories) if memories else None,
        failed={task: explain(row) for task, row in found.items() if row.status != "ok"},
    )


def _speed(row: Row) -> Interval | None:
    if row.speed_ratio is None:
        return None
    return Interval(row.speed_ratio, row.speed_low, row.speed_high, row.blocks)


def _all(ratios: Iterable[T | None]) -> list[T]:
    """All of them; empty if one is missing."""
    known = list(ratios)
    return [] if None in known else [ratio for ratio in known if ratio is not None]


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
        notes.append(f"{MISSING}  not measured; no average if a task is missing")
    kinds = dict.fromkeys(MEMORY_KIND_NAMES[MEMORY_KIND[run.kind]] for run in runs)
    return [
        *notes,
        "Average: geometric mean of the ratios over all tasks, its interval by Welch's formula",
        f"Mem: {'; '.join(kinds)}",
        *(
            f"{_header(task)}: {run.header.suite.name}, data: {run.header.data}"
            for task, run in by_task.items()
        ),
        *dict.fromkeys(f"{run.header.environment.hardware}, {machine(run)}" for run in runs),
    ]


def _header(task: str) -> str:
    return TASKS.get(task, task)


def _rate(row: TaskRow) -> Cell:
    rate = row.activation_set
    return Cell(MISSING if rate is None else f"{rate:g}", value=rate)


def _ratios(ratios: Iterable[float | None], digits: int | None) -> Figures:
    return [(None if ratio is None else format_ratio(ratio, digits), ratio) for ratio in ratios]


def _intervals(row: TaskRow, digits: int | None) -> Figures:
    lows = (*row.speed_low.values(), row.speed_average_low)
    highs = (*row.speed_high.values(), row.speed_average_high)
    return [(format_interval(low, high, digits), low) for low, high in zip(lows, highs, strict=True)]


def _cells(row: TaskRow, figures: Figures) -> list[Cell]:
    """Cells; without a figure, the reason why: tried in vain, or not measured."""
    nothing = [*(FAILED if task in row.failed else MISSING for task in row.speed), MISSING]
    return [Cell(word or mark, value=value) for (word, value), mark in zip(figures, nothing, strict=True)]
