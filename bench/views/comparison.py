"""`bench compare`: two stored runs of the same suite on the same machine, case by case."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec

from bench.errors import UsageError
from bench.records.environment import Machine
from bench.records.reading import Results
from bench.stats.intervals import Interval, unpaired_ratio
from bench.suites.case import Case
from bench.text.units import format_bytes, format_duration, format_ratio, significant
from bench.views.figures import block_times
from bench.views.tables.choice import chosen_rows
from bench.views.tables.grid import MISSING, Cell, Grid, Head, Section, Tabular
from bench.views.tables.titles import title_of

Difference = Literal["FASTER", "SLOWER", "SAME", "AMBIGUOUS", "UNMEASURED"]

SAME_WITHIN = 0.03
"""An interval of the speed that lies within this of 1 is called the same."""

FAILS_ON_NOTHING = "The exit code is 0 whatever differs; --fail-on slower,bigger makes it 1."

NOT_INTERLEAVED = (
    "The runs were made one after the other, not interleaved: whatever changed between them is in these "
    "ratios. `bench regress` compares two revisions side by side."
)


Fault = Literal["slower", "bigger"]
"""Faults of B that make the comparison fail."""


class ComparedCase(msgspec.Struct, frozen=True, kw_only=True):
    """One case in both runs. Ratios are A over B: above 1, B is faster, or needs less memory."""

    model: str
    length: int
    batch: int
    precision: str
    fill: str
    mode: str = "eager"
    threads: int | None = None
    """Threads of its own; None for the run's."""
    activation: float | None
    verdict: Difference
    a_status: str
    b_status: str
    a_step_seconds: float | None = None
    b_step_seconds: float | None = None
    speed_ratio: float | None = None
    speed_low: float | None = None
    speed_high: float | None = None
    a_memory_bytes: int | None = None
    b_memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison(Tabular):
    """Case by case, with what it fails on."""

    a: str
    b: str
    forced: list[str]
    """Why these runs can't be compared; empty unless that was overruled."""
    rows: list[ComparedCase]
    fails_on: Sequence[Fault] = ()

    @property
    def failures(self) -> list[str]:
        """Cases in which B has one of the faults, or does not run any more, each with the reason."""
        axes = _axes(self.rows)
        return [
            f"{row.model} at {', '.join([str(row.length), *_values(row, axes)])}: {reason}"
            for row in self.rows
            for reason in _faults(row, self.fails_on)
        ]

    @property
    def above(self) -> list[str]:
        return [f"NOT COMPARABLE, forced: {reason}" for reason in self.forced]

    @property
    def below(self) -> list[str]:
        failed = [f"FAILED: {line}" for line in self.failures]
        fine = f"no case is {' or '.join(self.fails_on)}" if self.fails_on else FAILS_ON_NOTHING
        return [f"A {self.a}, B {self.b}", NOT_INTERLEAVED, *(failed or [fine])]

    def grids(self, digits: int | None = None) -> list[Grid]:
        """One grid."""
        axes = _axes(self.rows)
        heads = [
            Head("Model", "left", label=True, fields=("model",)),
            Head("Length", label=True, fields=("length",)),
            *(Head(axis.capitalize(), label=True, fields=(axis,)) for axis in axes),
            Head("B is", "left", fields=("verdict",)),
            Head("Speed (A/B)", most_first=True, fields=("speed_ratio", "speed_low", "speed_high")),
            Head("A step", fields=("a_step_seconds",)),
            Head("B step", fields=("b_step_seconds",)),
            Head("A memory", fields=("a_memory_bytes",)),
            Head("B memory", fields=("b_memory_bytes",)),
        ]
        return [Grid(heads, [Section(None, [_cells(row, axes, digits) for row in self.rows])])]

    def record(self, objects: list[dict[str, Any]]) -> object:
        return {"a": self.a, "b": self.b, "forced": self.forced, "rows": objects}


def compare(
    a: Results,
    b: Results,
    force: bool = False,
    fails_on: Sequence[Fault] = (),
    models: Sequence[str] | None = None,
) -> Comparison:
    """Compare case by case. Raises UsageError with all reasons if runs differ in more than their code.

    models: those that have rows, by name or title; all by default.
    """
    for results in (a, b):
        if results.header.revisions is not None:
            raise UsageError(f"{results.path}: holds a gate's raw data, no run of a suite")
    reasons = list(differences(a, b))
    if reasons and not force:
        raise UsageError(f"{a.path} and {b.path} can't be compared: {'; '.join(reasons)} (--force to do so)")
    theirs = set(_cases(b))
    rows = [_row(case, a, b) for case in _cases(a) if case in theirs]
    if not rows:
        raise UsageError(f"{a.path} and {b.path} have no case in common")
    rows = chosen_rows(rows, models, lambda row: (row.model, title_of(row.model)))
    return Comparison(a=a.path, b=b.path, forced=reasons, rows=rows, fails_on=fails_on)


def faults_of(words: Sequence[str] | None) -> tuple[Fault, ...]:
    """Faults that a comparison is to fail on. Raises UsageError."""
    known: tuple[Fault, ...] = get_args(Fault)
    for word in words or ():
        if word not in known:
            raise UsageError(f"--fail-on {word}: choose {' or '.join(known)}, or both with a comma")
    return tuple(fault for fault in known if fault in (words or ()))


def _axes(rows: Sequence[ComparedCase]) -> list[str]:
    """Settings beside the length in which rows differ."""
    settings = ("batch", "precision", "fill", "mode", "threads")
    return [axis for axis in settings if len({getattr(row, axis) for row in rows}) > 1]


def _values(row: ComparedCase, axes: Sequence[str]) -> list[str]:
    return [str(getattr(row, axis)) for axis in axes]


def _faults(row: ComparedCase, faults: Sequence[Fault]) -> Iterator[str]:
    if faults and row.a_status == "ok" != row.b_status:
        yield f"does not run in B ({row.b_status})"
    if "slower" in faults and row.verdict == "SLOWER":
        yield f"slower, {_speed(row)} of A's speed"
    a, b = row.a_memory_bytes, row.b_memory_bytes
    if "bigger" in faults and a and b and b > a * (1 + SAME_WITHIN):
        yield f"bigger, {format_bytes(b)} after {format_bytes(a)}"


def differences(a: Results, b: Results) -> Iterator[str]:
    """Differences that two runs must not have: machine, precision, suite."""
    machines = (results.header.environment.machine for results in (a, b))
    for name, one, other in zip(Machine._fields, *machines, strict=True):
        if one != other:
            yield f"other {name} ({one} and {other})"
    first, second = (results.header.suite for results in (a, b))
    for field in first.__struct_fields__:
        if field in ("description", "timing", "quick", "training", "limits", "ignore"):
            continue
        if getattr(first, field) != getattr(second, field):
            what = "precision" if field == "precision" else f"suite: {field}"
            yield f"other {what} ({_plain(getattr(first, field))} and {_plain(getattr(second, field))})"
    if a.header.data != b.header.data:
        yield f"other data ({a.header.data} and {b.header.data})"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _cases(results: Results) -> list[Case]:
    return results.header.suite.cases(results.kind)


def _row(case: Case, a: Results, b: Results) -> ComparedCase:
    times = [block_times(results, case.id) for results in (a, b)]
    statuses = [_status(results, case) for results in (a, b)]
    memory = [results.peak_memory(case.id) for results in (a, b)]
    speed = None
    if all(times) and statuses == ["ok", "ok"]:
        first, second = ([math.log(seconds) for seconds in found] for found in times)
        speed = unpaired_ratio(first, second)
    steps = [statistics.geometric_mean(found) if found else None for found in times]
    return ComparedCase(
        model=case.implementation,
        length=case.length,
        batch=case.batch,
        precision=case.precision,
        fill=case.fill,
        mode=case.mode,
        threads=case.threads,
        activation=case.activation,
        verdict=_difference(speed),
        a_status=statuses[0],
        b_status=statuses[1],
        a_step_seconds=steps[0],
        b_step_seconds=steps[1],
        speed_ratio=speed.ratio if speed else None,
        speed_low=speed.low if speed else None,
        speed_high=speed.high if speed else None,
        a_memory_bytes=memory[0],
        b_memory_bytes=memory[1],
    )


def _status(results: Results, case: Case) -> str:
    if case.id in results.lost:
        return results.lost[case.id].status
    solo = results.solos.get(case.id)
    return solo.status if solo else "not reached"


def _difference(speed: Interval | None) -> Difference:
    return "UNMEASURED" if speed is None else told(speed) or "AMBIGUOUS"


def told(speed: Interval) -> Literal["SAME", "FASTER", "SLOWER"] | None:
    """Verdict of a ratio's interval; None if it has no ends, or lies on both sides of a limit."""
    if speed.low is None or speed.high is None:
        return None
    if speed.low > 1 - SAME_WITHIN and speed.high < 1 + SAME_WITHIN:
        return "SAME"
    if speed.low > 1:
        return "FASTER"
    return "SLOWER" if speed.high < 1 else None


def _cells(row: ComparedCase, axes: Sequence[str], digits: int | None) -> list[Cell]:
    rate = "" if row.activation is None else f" at activation {row.activation:g}"
    return [
        Cell(f"{row.model}{rate}", name=row.model),
        Cell(str(row.length), value=row.length),
        *(Cell(value) for value in _values(row, axes)),
        Cell(row.verdict),
        Cell(_speed(row, digits), value=row.speed_ratio),
        _step(row.a_step_seconds, row.a_status, digits),
        _step(row.b_step_seconds, row.b_status, digits),
        _memory_cell(row.a_memory_bytes, digits),
        _memory_cell(row.b_memory_bytes, digits),
    ]


def _speed(row: ComparedCase, digits: int | None = None) -> str:
    if row.speed_ratio is None:
        return MISSING
    if row.speed_low is None or row.speed_high is None:
        return f"{format_ratio(row.speed_ratio, digits)} (too few blocks for an interval)"
    found = (row.speed_ratio, row.speed_low, row.speed_high)
    ratio, low, high = (f"{one:.3f}" if digits is None else significant(one, digits) for one in found)
    return f"{ratio} ({low} to {high})"


def _step(seconds: float | None, status: str, digits: int | None) -> Cell:
    if status != "ok":
        return Cell(status)
    return Cell(MISSING if seconds is None else format_duration(seconds, digits), value=seconds)


def _memory_cell(count: int | None, digits: int | None) -> Cell:
    return Cell(MISSING if count is None else format_bytes(count, digits), value=count)
