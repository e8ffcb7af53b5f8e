"""Cost of a full published training here: measured step times, times the published schedule.

A view on records: it measures nothing. If a step was not measured, or no schedule is published, the reason
stands in place of a figure.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bench import workloads
from bench.errors import UsageError
from bench.records.published import TASKS
from bench.records.reading import Results, files_of, read
from bench.records.schedules import schedule_of
from bench.suites import collection
from bench.suites import reading as suites
from bench.suites.files import suite_file
from bench.suites.suite import Suite
from bench.system.shipped import shipped
from bench.text.units import format_count, significant
from bench.views.tables.choice import chosen_rows
from bench.views.tables.grid import MISSING, Cell, Grid, Head, Section, Tabular
from bench.views.tables.row import Row
from bench.views.tables.rows import rows_of
from implementations import registry

ASSUMPTION = (
    "Assumed: a step's time and energy grow in proportion to its batch; no time for validation. "
    "A sparse model is estimated at the activation rate it was measured at, which training will change"
)


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """One model's full training on one task; a figure that cannot be had is None, and `reason` says why."""

    model: str
    title: str
    task: str
    schedule: str | None
    """Origin of the published schedule."""
    steps: int | None = None
    batch: int | None = None
    """Batch of the published schedule."""
    measured_step_seconds: float | None = None
    measured_batch: int | None = None
    activation_rate: float | None = None
    hours: float | None = None
    joules: float | None = None
    record: str | None = None
    """The file that the step time is from."""
    hardware: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingCosts(Tabular):
    """Every model of a suite, or of a collection of them."""

    name: str
    device: str
    tasks: list[str]
    estimates: list[Estimate]

    @property
    def rows(self) -> list[list[Estimate]]:  # type: ignore[override]
        """A model's estimates for all tasks."""
        models = dict.fromkeys(one.model for one in self.estimates)
        return [[one for one in self.estimates if one.model == model] for model in models]

    @property
    def below(self) -> list[str]:
        notes = [f"{letter}  {reason}" for reason, letter in self._letters.items()]
        notes += [_origin(estimate) for estimate in self.estimates if estimate.hours is not None]
        return [*notes, *_schedules(self.estimates), ASSUMPTION]

    @property
    def _letters(self) -> dict[str, str]:
        """Letters for the reasons why figures are missing."""
        reasons = dict.fromkeys(one.reason for one in self.estimates if one.reason is not None)
        return {reason: chr(ord("a") + number) for number, reason in enumerate(reasons)}

    def grids(self, digits: int | None = None) -> list[Grid]:
        """Hours, and energy if it was measured, by model and task; totals if none is missing."""
        hours = partial(_hours, digits=digits)
        grids = [self._grid(f"Hours on {self.device}", lambda one: one.hours, hours)]
        if any(estimate.joules is not None for estimate in self.estimates):
            joules = partial(_joules, digits=digits)
            grids.append(self._grid(f"Energy on {self.device}", lambda one: one.joules, joules))
        return grids

    def _grid(
        self, heading: str, figure: Callable[[Estimate], float | None], show: Callable[[float], str]
    ) -> Grid:
        heads = [Head(heading, "left", label=True, fields=("model", "title"))]
        heads += [Head(name) for name in (*(TASKS.get(task, task) for task in self.tasks), "All")]
        return Grid(heads, [Section(None, [self._cells(row, figure, show) for row in self.rows])])

    def _cells(
        self, row: list[Estimate], figure: Callable[[Estimate], float | None], show: Callable[[float], str]
    ) -> list[Cell]:
        by_task = {one.task: one for one in row}
        found = [by_task.get(task) for task in self.tasks]
        known = [value for one in found if one is not None and (value := figure(one)) is not None]
        total = sum(known) if len(known) == len(self.tasks) else None
        return [
            Cell(row[0].title, name=row[0].model),
            *(self._cell(one, figure, show) for one in found),
            Cell(MISSING if total is None else show(total), value=total),
        ]

    def _cell(
        self,
        one: Estimate | None,
        figure: Callable[[Estimate], float | None],
        show: Callable[[float], str],
    ) -> Cell:
        value = figure(one) if one else None
        if value is not None:
            return Cell(show(value), value=value)
        return Cell(MISSING, footnote=self._letters.get(one.reason or "") if one else None)

    def objects(self, rows: Sequence[list[Estimate]]) -> list[Estimate]:
        return [one for row in rows for one in row]

    def record(self, objects: list[dict[str, Any]]) -> object:
        return {"name": self.name, "device": self.device, "tasks": self.tasks, "estimates": objects}


def training_costs(
    name: str, device: str, files: Sequence[Path], wanted: Sequence[str] | None = None
) -> TrainingCosts:
    """Estimate the training of a suite's or a collection's models on `cpu` or `cuda`.

    files: result files, or folders of them; those of results/baselines if none is given.
    wanted: models by name or title; all by default.
    Raises UsageError if the suite or a file cannot be read.
    """
    if device not in ("cpu", "cuda"):
        raise UsageError(
            f"--device {device}: choose cpu or cuda; a plan is made from records, not on a device"
        )
    runs = [run for run in map(read, _files(files)) if run.kind == device and run.header.revisions is None]
    file = suite_file(name)
    parts = collection.load(file)
    loaded = [suites.load(part) for part in (parts.files if parts else (file,))]
    measured = [(run, row) for run in runs for row in rows_of(run, run.header.suite.baseline)]
    models = dict.fromkeys(model for suite in loaded for model in suite.implementations)
    estimates = [
        _estimate(model, suite, device, measured)
        for model in models
        for suite in loaded
        if model in suite.implementations
    ]
    kept = chosen_rows(estimates, wanted, lambda one: (one.model, one.title))
    tasks = [_task(suite) for suite in loaded]
    return TrainingCosts(name=name, device=device, tasks=tasks, estimates=kept)


def _files(files: Sequence[Path]) -> list[Path]:
    if files:
        return files_of(files)
    return sorted(shipped("results/baselines").rglob("*.jsonl"))


def _task(suite: Suite) -> str:
    return workloads.load(suite.workload).task(suite.lengths[0]).name


def _estimate(model: str, suite: Suite, device: str, measured: Sequence[tuple[Results, Row]]) -> Estimate:
    item = registry.find(model)
    schedule = schedule_of(item.system, _task(suite))
    one = Estimate(
        model=model, title=item.title, task=_task(suite), schedule=schedule.source if schedule else None
    )
    if schedule is None:
        return msgspec.structs.replace(one, reason="no published schedule")
    if schedule.steps is None:
        return msgspec.structs.replace(one, reason="the published schedule is for more data than this task's")
    if schedule.length not in (None, suite.lengths[0]):
        return msgspec.structs.replace(one, reason=f"published for sequences of {schedule.length}")
    one = msgspec.structs.replace(one, steps=schedule.steps, batch=schedule.batch)
    found = min(
        _matching(model, suite, measured), key=lambda pair: _far(pair[1], schedule.batch), default=None
    )
    if found is None:
        return msgspec.structs.replace(one, reason=f"not measured on {device} yet (bench run)")
    run, row = found
    assert row.step_seconds is not None
    factor = schedule.steps * schedule.batch / row.batch
    energy = run.solos[row.case_id].energy
    return msgspec.structs.replace(
        one,
        measured_step_seconds=row.step_seconds,
        measured_batch=row.batch,
        activation_rate=row.activation_rate,
        hours=row.step_seconds * factor / 3600,
        joules=energy.step_joules * factor if energy else None,
        record=os.path.relpath(row.run),
        hardware=row.hardware,
    )


def _matching(
    model: str, suite: Suite, measured: Sequence[tuple[Results, Row]]
) -> Iterator[tuple[Results, Row]]:
    """Timed training steps of a model on the suite's task, at its length and sizes; the newest first."""
    wanted = (model, suite.workload, suite.lengths[0], "train", suite.hyperparameters, suite.fill)
    for run, row in sorted(measured, key=lambda pair: pair[1].created, reverse=True):
        setting = (row.model, row.workload, row.length, row.phase, row.hyperparameters, row.fill)
        if setting == wanted and row.step_seconds is not None:
            yield run, row


def _far(row: Row, batch: int) -> float:
    """Distance of a measured batch from the published one; the nearest needs the least scaling."""
    return abs(math.log(row.batch / batch))


def _origin(one: Estimate) -> str:
    rate = "" if one.activation_rate is None else f", activation {one.activation_rate:.1%}"
    source = f"{one.record}, {one.hardware}"
    return (
        f"{one.title} on {TASKS.get(one.task, one.task)}: {one.steps} steps of {one.batch}; measured "
        f"{one.measured_step_seconds:.3g} s per step of {one.measured_batch}{rate} ({source})"
    )


def _schedules(estimates: Sequence[Estimate]) -> list[str]:
    by_source: dict[str, dict[str, None]] = {}
    for estimate in estimates:
        if estimate.schedule is not None:
            by_source.setdefault(estimate.schedule, {})[estimate.title] = None
    return [f"Schedule of {', '.join(titles)}: {source}" for source, titles in by_source.items()]


def _hours(hours: float, digits: int | None) -> str:
    if digits is not None:
        return significant(hours, digits)
    return f"{hours:.3g}" if hours < 100 else f"{hours:.0f}"


def _joules(joules: float, digits: int | None) -> str:
    return f"{format_count(joules, digits)}J"
