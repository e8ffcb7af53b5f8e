"""One model's figures over commits: a line for each case on one machine, with the changes of its level.

A view on the result store. Lines never mix: figures of two cases, machines, torch versions, data or
baselines are not the same measurement.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from bench.errors import UsageError
from bench.records.environment import Pairing, threads_in_words
from bench.records.solo import Status
from bench.records.store import find, models
from bench.stats.levels import change_points, level_ratio
from bench.system.repository import CommitInfo, Repository
from bench.views.changes import LevelChange, Series, changes_of
from bench.views.shelf import FIGURES, Figure, MeasuredCase, OwnBaseline, Shelf
from bench.views.tables.naming import RATE, SETTINGS, names_of

Order = Literal["commit", "measurement"]

SHORT = 9
"""Characters of a commit's hash that are shown."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Figure of the case in the newest run of one commit."""

    commit: str
    subject: str | None
    """First line of the commit's message, if the repository at hand has the commit."""
    created: str
    """Begin of that run: ISO 8601, UTC."""
    run: str
    status: Status
    reason: str | None
    value: float | None
    """Ratio, seconds or bytes, by the history's figure; None if it was not measured."""
    low: float | None
    """Lower end of the 95% interval over blocks; None with fewer than three, and for memory."""
    high: float | None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One case on one machine, over commits."""

    name: str
    """The model's title, and the settings in which the lines of this history differ."""
    case_id: str
    baseline: str | None
    """Title of the model that speed is against."""
    device: str
    hardware: str
    threads: int
    torch: str
    allocator: str | None
    pairing: Pairing
    variables: str | None
    data: str
    backend_set: str = "auto"
    """The backend that was asked for."""
    seed: int = 0
    checkpoint: str | None = None
    """File of the weights; None as initialised."""
    points: list[Point]
    changes: list[LevelChange]

    @property
    def words(self) -> str:
        """Words on where it was measured, and on what."""
        threads = threads_in_words(self.threads, self.pairing)
        settings = filter(None, (self.allocator, self.variables))
        machine = [self.hardware, self.device, threads, f"torch {self.torch}", *settings]
        return ", ".join([*machine, f"data: {self.data}"])


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Every line of one figure of one model in one suite."""

    model: str
    suite: str
    figure: Figure
    order: Order
    """In the order of the commits' dates; if the repository at hand lacks one, of when they were measured."""
    lines: list[Line]


def history(
    folder: Path,
    model: str,
    suite: str,
    figure: str = "speed",
    baseline: str | None = None,
    shelf: Shelf | None = None,
) -> History:
    """A model's history in a suite. Raises UsageError if the store or the figure is not there."""
    shelf = shelf or Shelf(model)
    if figure not in FIGURES:
        raise UsageError(f"--figure {figure}: choose {', '.join(FIGURES)}")
    measured: list[MeasuredCase] = []
    own = None
    for run in find(folder, suite, model, shelf.results, shelf.runs):
        try:
            measured += shelf.cases(run, model, figure, baseline)
        except OwnBaseline as error:
            own = error  # Its speed is 1 there; other runs may have another baseline.
    if own is not None and not measured:
        raise own
    commits = shelf.commits(frozenset(case.commit for case in measured))
    by_line: dict[tuple[object, ...], list[MeasuredCase]] = defaultdict(list)
    for case in measured:
        by_line[case.line].append(case)
    names = _names([cases[0] for cases in by_line.values()])
    return History(
        model=model,
        suite=suite,
        figure=figure,
        order="commit" if commits else "measurement",
        lines=_chained(
            [_line(name, cases, figure, commits) for name, cases in zip(names, by_line.values(), strict=True)]
        ),
    )


def histories(
    folder: Path,
    suite: str,
    model: str | None = None,
    figure: str = "speed",
    baseline: str | None = None,
    shelf: Shelf | None = None,
) -> list[History]:
    """The history of a model, or of every model of a suite that has the figure. Raises UsageError."""
    shelf = shelf or Shelf(model)
    if model is not None:
        return [history(folder, model, suite, figure, baseline, shelf)]
    found = []
    for name in models(folder, suite, shelf.results, shelf.runs):
        try:
            found.append(history(folder, name, suite, figure, baseline, shelf))
        except OwnBaseline:
            continue
    return found


def commits_since(revision: str | None) -> set[str] | None:
    """Commits of the repository around this folder that a revision does not have; None for no revision."""
    if revision is None:
        return None
    repository = Repository.around(Path.cwd())
    return set(repository.commits_after(repository.commit(revision)))


def _line(
    name: str, cases: Sequence[MeasuredCase], figure: Figure, commits: Mapping[str, CommitInfo]
) -> Line:
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
        allocator=first.row.allocator,
        pairing=first.row.pairing,
        variables=first.row.variables,
        data=first.row.data,
        backend_set=first.row.backend_set,
        seed=first.row.seed,
        checkpoint=first.row.checkpoint,
        points=points,
        changes=changes_of(_series(ordered, points, figure)),
    )


def _when(case: MeasuredCase, commits: Mapping[str, CommitInfo]) -> tuple[int, str]:
    return (commits[case.commit].date if commits else 0, case.row.created)


def _point(case: MeasuredCase, figure: Figure, commit: CommitInfo | None) -> Point:
    value = case.value(figure) if case.row.status == "ok" else None
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


def _series(ordered: Sequence[MeasuredCase], points: Sequence[Point], figure: Figure) -> Series:
    """Points of a line, without those that failed."""
    pairs = [(case, point) for case, point in zip(ordered, points, strict=True) if point.value is not None]
    first = ordered[0]
    return Series(
        case=first.case,
        figure=figure,
        baseline=first.baseline or first.results.header.suite.baseline,
        commits=[point.commit for _, point in pairs],
        values=[point.value for _, point in pairs if point.value is not None],
        half_widths=[
            math.log(point.high / point.low) / 2 if point.low and point.high else None for _, point in pairs
        ],
        runs=[case.results for case, _ in pairs],
    )


def _chained(lines: Sequence[Line]) -> list[Line]:
    """Lines whose first level is held against the last one of the same case under another torch."""

    def key(line: Line) -> tuple[object, ...]:
        machine = (line.device, line.hardware, line.threads, line.allocator, line.pairing, line.variables)
        return (line.case_id, line.baseline, *machine, line.data)

    latest: dict[tuple[object, ...], Line] = {}
    chained: dict[int, Line] = {}
    for line in sorted(lines, key=lambda line: line.points[0].created):
        before = latest.get(key(line))
        latest[key(line)] = line
        change = _across(before, line) if before is not None and before.torch != line.torch else None
        changes = [*([change] if change else []), *line.changes]
        chained[id(line)] = msgspec.structs.replace(line, changes=changes)
    return [chained[id(line)] for line in lines]


def _across(before: Line, after: Line) -> LevelChange | None:
    """The change from one torch to the next, if it can be told from noise."""
    old, new = _last_level(before), _first_level(after)
    values = [point.value for point in (*old, *new) if point.value is not None]
    if len(old) not in change_points(values):
        return None
    ratio = level_ratio(values[: len(old)], values[len(old) :])
    return LevelChange(
        commit=new[0].commit,
        after=old[-1].commit,
        ratio=ratio.ratio,
        low=ratio.low,
        high=ratio.high,
        cause="versions",
        why=f"torch {before.torch} → {after.torch}",
    )


def _measured_points(line: Line) -> list[Point]:
    return [point for point in line.points if point.value is not None]


def _last_level(line: Line) -> list[Point]:
    points = _measured_points(line)
    last = line.changes[-1].commit if line.changes else None
    begin = next((index for index, point in enumerate(points) if point.commit == last), 0)
    return points[begin:]


def _first_level(line: Line) -> list[Point]:
    points = _measured_points(line)
    first = line.changes[0].commit if line.changes else None
    end = next((index for index, point in enumerate(points) if point.commit == first), len(points))
    return points[:end]


def _names(lines: Sequence[MeasuredCase]) -> list[str]:
    """The model's title, and what tells the lines apart."""
    names = names_of([line.row for line in lines], [RATE, *SETTINGS])
    if len({line.baseline for line in lines}) == 1:
        return names
    return [f"{name}, against {line.baseline}" for name, line in zip(names, lines, strict=True)]
