"""`bench compare`: two stored runs of the same suite on the same machine, case by case."""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import msgspec

from bench.errors import UsageError
from bench.records.reading import Results
from bench.records.run import MEMORY_KIND, Machine, Solo
from bench.stats.intervals import Interval, unpaired_ratio
from bench.stats.ratios import block_step_seconds
from bench.suites.case import Case
from bench.text.escape import one_line
from bench.text.text_table import text_table
from bench.text.units import format_bytes, format_duration, format_ratio

Difference = Literal["FASTER", "SLOWER", "SAME", "AMBIGUOUS", "UNMEASURED"]

SAME_WITHIN = 0.03
"""An interval of the speed that lies within this of 1 is called the same."""

FAILS_ON_NOTHING = "The exit code is 0 whatever differs; --fail-on slower,bigger makes it 1."

NOT_INTERLEAVED = (
    "The runs were made one after the other, not interleaved: whatever changed between them is in these "
    "ratios. `bench regress` compares two revisions side by side."
)


Fault = Literal["slower", "bigger"]
"""What B can be to make the comparison fail."""


class ComparedCase(msgspec.Struct, frozen=True, kw_only=True):
    """One case in both runs. Ratios are A over B: above 1, B is faster, or needs less memory."""

    model: str
    length: int
    batch: int
    precision: str
    fill: str
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


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    a: str
    b: str
    forced: list[str]
    """Why these runs can't be compared; empty unless that was overruled."""
    rows: list[ComparedCase]


def compare(a: Results, b: Results, force: bool = False) -> Comparison:
    """Compare case by case. Raises UsageError with all reasons if runs differ in more than their code."""
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
    return Comparison(a=a.path, b=b.path, forced=reasons, rows=rows)


def faults_of(words: Sequence[str] | None) -> tuple[Fault, ...]:
    """What a comparison is to fail on. Raises UsageError."""
    known: tuple[Fault, ...] = get_args(Fault)
    for word in words or ():
        if word not in known:
            raise UsageError(f"--fail-on {word}: choose {' or '.join(known)}, or both with a comma")
    return tuple(fault for fault in known if fault in (words or ()))


def failures(found: Comparison, faults: Sequence[Fault]) -> list[str]:
    """Cases in which B has one of the faults, or does not run any more, each with the reason."""
    axes = _axes(found.rows)
    return [
        f"{row.model} at {', '.join([str(row.length), *_values(row, axes)])}: {reason}"
        for row in found.rows
        for reason in _faults(row, faults)
    ]


def _axes(rows: Sequence[ComparedCase]) -> list[str]:
    """Settings beside the length in which rows differ."""
    return [axis for axis in ("batch", "precision", "fill") if len({getattr(row, axis) for row in rows}) > 1]


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
    """What two runs must have in common and have not: machine, precision, suite."""
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
    times = [block_step_seconds(results.samples, case.id) for results in (a, b)]
    statuses = [_status(results, case) for results in (a, b)]
    memory = [_memory(results, case) for results in (a, b)]
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


def _memory(results: Results, case: Case) -> int | None:
    solo: Solo | None = results.solos.get(case.id)
    return solo.memory_bytes(MEMORY_KIND[results.kind]) if solo else None


def _difference(speed: Interval | None) -> Difference:
    if speed is None:
        return "UNMEASURED"
    if speed.low is None or speed.high is None:
        return "AMBIGUOUS"
    if speed.low > 1 - SAME_WITHIN and speed.high < 1 + SAME_WITHIN:
        return "SAME"
    if speed.low > 1:
        return "FASTER"
    return "SLOWER" if speed.high < 1 else "AMBIGUOUS"


def as_text(comparison: Comparison, faults: Sequence[Fault] = ()) -> str:
    """The table, and above it why it should not be believed, if so; below it what fails."""
    axes = _axes(comparison.rows)
    rows = [
        [
            one_line(
                row.model if row.activation is None else f"{row.model} at activation {row.activation:g}"
            ),
            row.length,
            *_values(row, axes),
            row.verdict,
            _speed(row),
            *(_or_status(row.a_step_seconds, row.a_status), _or_status(row.b_step_seconds, row.b_status)),
            *(_bytes(row.a_memory_bytes), _bytes(row.b_memory_bytes)),
        ]
        for row in comparison.rows
    ]
    headers = [
        "Model",
        "Length",
        *map(str.capitalize, axes),
        "B is",
        "Speed (A/B)",
        "A step",
        "B step",
        "A memory",
        "B memory",
    ]
    align = ["left", "right", *len(axes) * ["right"], "left", *5 * ["right"]]
    table = text_table(rows, headers, align)
    label = [f"NOT COMPARABLE, forced: {reason}" for reason in comparison.forced]
    runs = f"A {comparison.a}, B {comparison.b}"
    failed = [f"FAILED: {one_line(line)}" for line in failures(comparison, faults)]
    outcome = failed or [f"no case is {' or '.join(faults)}" if faults else FAILS_ON_NOTHING]
    return "\n".join([*map(one_line, label), table, "", one_line(runs), NOT_INTERLEAVED, *outcome])


def _speed(row: ComparedCase) -> str:
    if row.speed_ratio is None:
        return "–"
    if row.speed_low is None or row.speed_high is None:
        return f"{format_ratio(row.speed_ratio)} (too few blocks for an interval)"
    return f"{row.speed_ratio:.3f} ({row.speed_low:.3f} to {row.speed_high:.3f})"


def _or_status(seconds: float | None, status: str) -> str:
    return status if status != "ok" else "–" if seconds is None else format_duration(seconds)


def _bytes(count: int | None) -> str:
    return "–" if count is None else format_bytes(count)
