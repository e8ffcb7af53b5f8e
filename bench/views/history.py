"""One model's figures over commits: a line for each case on one machine, with the changes of its level.

A view on the result store. Lines never mix: figures of two cases, machines, torch versions, data or
baselines are not the same measurement.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import msgspec
from tabulate import tabulate

from bench.errors import UsageError
from bench.records.reading import Results, read
from bench.records.run import Status
from bench.records.store import Stored, find
from bench.stats.intervals import Interval, ratio_interval
from bench.stats.levels import MIN_LEVEL, change_points, level_ratio, levels
from bench.stats.ratios import block_step_seconds
from bench.suites.case import Case
from bench.system.git import CommitInfo, Repository
from bench.text.units import format_bytes, format_duration, format_ratio
from bench.views.tables.rows import Row, machine_of, rows_of, title_of

Figure = Literal["speed", "step", "memory"]
FIGURES: tuple[Figure, ...] = get_args(Figure)
Order = Literal["commit", "measurement"]

SHORT = 9
"""Characters of a commit's hash that are shown."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What the newest run of one commit says of the case."""

    commit: str
    subject: str | None
    """First line of the commit's message, where the repository at hand has the commit."""
    created: str
    """When that run began: ISO 8601, UTC."""
    run: str
    status: Status
    reason: str | None
    value: float | None
    """Ratio, seconds or bytes, by the history's figure; None where it was not measured."""
    low: float | None
    """Of the 95% interval over blocks; None with fewer than three, and for memory, which has no noise."""
    high: float | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A new level, as a multiple of the one before it."""

    commit: str
    """The first commit at the new level."""
    after: str
    """The last one at the old level."""
    ratio: float
    low: float | None
    """Of the 95% interval. The same values chose the place, so it is somewhat too narrow."""
    high: float | None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One case on one machine, over commits."""

    name: str
    """The model's title, and the settings in which the lines of this history differ."""
    case_id: str
    baseline: str | None
    """What speed is against."""
    device: str
    hardware: str
    threads: int
    torch: str
    data: str
    points: list[Point]
    changes: list[Change]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Every line of one figure of one model in one suite."""

    model: str
    suite: str
    figure: Figure
    order: Order
    """By the commits' dates; where the repository at hand lacks one of them, by when they were measured."""
    lines: list[Line]


@dataclass(frozen=True)
class Measured:
    """A case in one stored run."""

    commit: str
    case: Case
    row: Row
    results: Results
    baseline: str | None

    @property
    def line(self) -> tuple[object, ...]:
        """What is equal for all points of a line."""
        return (self.case, self.baseline, *machine_of(self.row), self.results.header.data)


def history(
    folder: Path, model: str, suite: str, figure: str = "speed", baseline: str | None = None
) -> History:
    """A model's history in a suite. Raises UsageError where the store or the figure is not there."""
    if figure not in FIGURES:
        raise UsageError(f"--figure {figure}: choose {', '.join(FIGURES)}")
    measured = [case for run in find(folder, suite, model) for case in _cases(run, model, figure, baseline)]
    commits = Repository.commits(Path.cwd(), {case.commit for case in measured})
    by_line: dict[tuple[object, ...], list[Measured]] = defaultdict(list)
    for case in measured:
        by_line[case.line].append(case)
    names = _names([cases[0] for cases in by_line.values()])
    return History(
        model=model,
        suite=suite,
        figure=figure,
        order="commit" if commits else "measurement",
        lines=[
            _line(name, cases, figure, commits) for name, cases in zip(names, by_line.values(), strict=True)
        ],
    )


def _cases(stored: Stored, model: str, figure: Figure, baseline: str | None) -> Iterator[Measured]:
    """The model's cases that a run has reached."""
    results = read(stored.path)
    against = baseline or results.header.suite.baseline
    if figure == "speed" and against == model:
        raise UsageError(
            f"{model} is its own baseline in {stored.path}: its speed is 1; "
            "choose --figure step, or another --baseline"
        )
    for row in rows_of(results, against):
        if row.model == model and row.case_id in results.solos:
            case = results.solos[row.case_id].case
            yield Measured(stored.commit, case, row, results, against if figure == "speed" else None)


def _line(name: str, cases: Sequence[Measured], figure: Figure, commits: Mapping[str, CommitInfo]) -> Line:
    newest = {case.commit: case for case in sorted(cases, key=lambda case: case.row.created)}
    ordered = sorted(newest.values(), key=lambda case: _when(case, commits))
    points = [_point(case, figure, commits.get(case.commit)) for case in ordered]
    first = cases[0]
    return Line(
        name=name,
        case_id=first.row.case_id,
        baseline=first.baseline,
        device=first.row.device,
        hardware=first.row.hardware,
        threads=first.row.threads,
        torch=first.row.torch,
        data=first.results.header.data,
        points=points,
        changes=list(_changes([point for point in points if point.value is not None])),
    )


def _when(case: Measured, commits: Mapping[str, CommitInfo]) -> tuple[int, str]:
    return (commits[case.commit].date if commits else 0, case.row.created)


def _point(case: Measured, figure: Figure, commit: CommitInfo | None) -> Point:
    value = _value(case, figure) if case.row.status == "ok" else None
    return Point(
        commit=case.commit,
        subject=commit.subject if commit else None,
        created=case.row.created,
        run=case.row.run,
        status=case.row.status,
        reason=case.row.reason,
        value=value.ratio if value else None,
        low=value.low if value else None,
        high=value.high if value else None,
    )


def _value(case: Measured, figure: Figure) -> Interval | None:
    row = case.row
    if figure == "speed":
        if row.speed_ratio is None:
            return None
        return Interval(row.speed_ratio, row.speed_low, row.speed_high, row.blocks)
    if figure == "step":
        times = block_step_seconds(case.results.samples, row.case_id)
        return ratio_interval([math.log(seconds) for seconds in times]) if times else None
    return Interval(row.peak_memory_bytes, None, None, 0) if row.peak_memory_bytes else None


def _changes(points: Sequence[Point]) -> Iterator[Change]:
    values = [point.value for point in points if point.value is not None]
    found = change_points(values)
    pieces = levels(values, found)
    for number, index in enumerate(found):
        ratio = level_ratio(pieces[number], pieces[number + 1])
        yield Change(
            commit=points[index].commit,
            after=points[index - 1].commit,
            ratio=ratio.ratio,
            low=ratio.low,
            high=ratio.high,
        )


_PARTS: tuple[Callable[[Measured], str], ...] = (
    lambda case: f"length {case.case.length}",
    lambda case: f"batch {case.case.batch}",
    lambda case: "as initialised" if case.case.activation is None else f"activation {case.case.activation:g}",
    lambda case: case.case.precision,
    lambda case: case.case.phase,
    lambda case: f"fill {case.case.fill}",
    lambda case: f"{case.case.hyperparameters} sizes",
    lambda case: f"backend {case.case.backend}",
    lambda case: f"seed {case.case.seed}",
    lambda case: f"against {case.baseline}",
    lambda case: case.row.hardware,
    lambda case: case.row.device,
    lambda case: f"{case.row.threads} threads",
    lambda case: f"torch {case.row.torch}",
    lambda case: case.results.header.data,
)


def _names(lines: Sequence[Measured]) -> list[str]:
    telling = [part for part in _PARTS if len({part(line) for line in lines}) > 1]
    return [", ".join([title_of(line.row.model), *(part(line) for part in telling)]) for line in lines]


def as_text(found: History) -> str:
    """A table for each line, its changes marked at the commits that begin them."""
    order = "date" if found.order == "commit" else "time of measurement (not all are in this repository)"
    footer = [
        f"{found.suite}: {_MEANING[found.figure]}. Commits by their {order}; the newest run of each.",
        f"A change is marked where a new level of {MIN_LEVEL} commits or more begins after one as "
        "long; its interval does not count that the same values chose its place.",
    ]
    return "\n".join([*(_line_text(line, found.figure) + "\n" for line in found.lines), *footer])


_MEANING: Mapping[Figure, str] = {
    "speed": "speed over the baseline's, with its 95% interval over blocks",
    "step": "seconds a step, geometric mean over blocks with its 95% interval",
    "memory": "peak memory of a step",
}


def _line_text(line: Line, figure: Figure) -> str:
    against = f" against {title_of(line.baseline)}" if line.baseline else ""
    machine = f"{line.hardware}, {line.device}, {line.threads} threads, torch {line.torch}"
    rows = [
        [
            point.commit[:SHORT],
            point.created[:10],
            *_cells(point, figure),
            _mark(line, point),
            point.subject or "",
        ]
        for point in line.points
    ]
    headers = ["Commit", "Measured", figure.capitalize(), "95% interval", "Change", "Subject"]
    align = ["left", "left", "right", "right", "left", "left"]
    table = tabulate(rows, headers, "simple", colalign=align, disable_numparse=True)
    failed = [
        f"X  {point.commit[:SHORT]}: {point.status}, {point.reason}"
        for point in line.points
        if point.status != "ok"
    ]
    return "\n".join([f"{line.name}{against}: {machine}, data: {line.data}", table, *failed])


def _cells(point: Point, figure: Figure) -> list[str]:
    if point.value is None:
        return ["–" if point.status == "ok" else "X", "–"]
    show = format_figure(figure)
    interval = f"{show(point.low)} to {show(point.high)}" if point.low and point.high else "–"
    return [show(point.value), interval]


def format_figure(figure: Figure) -> Callable[[float], str]:
    """How a figure's values are written."""
    shown: Mapping[Figure, Callable[[float], str]] = {
        "speed": format_ratio,
        "step": format_duration,
        "memory": format_bytes,
    }
    return shown[figure]


def _mark(line: Line, point: Point) -> str:
    return next((describe(change) for change in line.changes if change.commit == point.commit), "")


def describe(change: Change) -> str:
    """`× 1.24 (1.20 to 1.28)`."""
    if change.low is None or change.high is None:
        return f"× {change.ratio:.3g}"
    return f"× {change.ratio:.3g} ({change.low:.3g} to {change.high:.3g})"
