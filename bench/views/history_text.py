"""A history as a table and in words: its commits, its changes, and whether there is one to act on."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import msgspec

from bench.stats.levels import MIN_LEVEL
from bench.text.units import format_bytes, format_duration, format_ratio
from bench.views.changes import LevelChange
from bench.views.history import SHORT, History, Line, Point
from bench.views.shelf import Figure
from bench.views.tables.choice import chosen_rows
from bench.views.tables.grid import FAILED, MISSING, Cell, Grid, Head, Section, Tabular
from bench.views.tables.titles import title_of


@dataclass(frozen=True)
class Entry:
    """A point of a line of a history."""

    model: str
    figure: Figure
    line: Line
    point: Point

    @property
    def names(self) -> tuple[str, ...]:
        """Names by which a user may ask for its row."""
        line = (self.line.name, self.model, title_of(self.model))
        return (self.point.commit[:SHORT], self.point.commit, *line)


@dataclass(frozen=True)
class HistoryTable(Tabular):
    """A row for each commit of each line, its changes marked at the commits that begin them."""

    found: Sequence[History]
    rows: Sequence[Entry]
    alone: bool = False
    """Whether one model was asked for: JSON is its history then, not a list."""

    @classmethod
    def of(
        cls, found: Sequence[History], wanted: Sequence[str] | None = None, alone: bool = False
    ) -> "HistoryTable":
        """All of some histories of one figure, or what a user names of them. Raises UsageError."""
        entries = [
            Entry(one.model, one.figure, line, point)
            for one in found
            for line in one.lines
            for point in line.points
        ]
        return cls(found, chosen_rows(entries, wanted, lambda entry: entry.names), alone)

    @property
    def lines(self) -> list[tuple[History, Line]]:
        return [(one, line) for one in self.found for line in one.lines]

    @property
    def below(self) -> list[str]:
        """Why figures are missing, where each line was measured, and its changes in words."""
        failed = [
            f"X  {row.point.commit[:SHORT]}: {row.point.status}, {row.point.reason}"
            for row in self.rows
            if row.point.status != "ok"
        ]
        where = [f"{line.name}{_against(line)}: {line.words}" for _, line in self.lines]
        changes = [
            f"{line.name}: {_sentence(change, one.figure)}"
            for one, line in self.lines
            for change in line.changes
        ]
        return [*failed, *where, *self._order(), *changes]

    def _order(self) -> list[str]:
        if not self.found:
            return []
        first = self.found[0]
        order = "date" if first.order == "commit" else "time of measurement (not all are in this repository)"
        return [
            f"{first.suite}: {_MEANING[first.figure]}. Commits by their {order}; the newest run of each.",
            f"A change is marked where a new level of {MIN_LEVEL} commits or more begins after one as "
            "long; its interval does not count that the same values chose its place.",
        ]

    def grids(self, digits: int | None = None) -> list[Grid]:
        """One grid: a section for each line."""
        figure = self.found[0].figure if self.found else "speed"
        several = len(self.lines) > 1
        heads = [
            *([Head("Line", "left", label=True, fields=("line",))] if several else []),
            Head("Commit", "left", label=True, fields=("commit",)),
            Head("Measured", "left", drop=2, fields=("created",)),
            Head(figure.capitalize(), fields=("value",), most_first=figure == "speed"),
            Head("95% interval", drop=1, fields=("low", "high")),
            Head("Change", "left", fields=("change",)),
            Head("Subject", "left", words=True, fields=("subject",)),
        ]
        parts = groupby(self.rows, key=lambda row: id(row.line))
        sections = [Section(None, [_cells(row, several, digits) for row in part]) for _, part in parts]
        return [Grid(heads, sections)]

    def objects(self, rows: Sequence[Entry]) -> list[dict[str, Any]]:
        return [
            {"line": row.line.name, **msgspec.to_builtins(row.point), "change": _mark(row.line, row.point)}
            for row in rows
        ]

    def record(self, objects: list[dict[str, Any]]) -> object:
        """The histories, with these points."""
        points: dict[object, list[dict[str, Any]]] = {}
        for one in objects:
            name, *rest = one.items()
            points.setdefault(name[1], []).append(dict(rest))

        def lines(one: History) -> list[dict[str, Any]]:
            return [msgspec.to_builtins(line) | {"points": points.get(line.name, [])} for line in one.lines]

        made = [msgspec.to_builtins(one) | {"lines": lines(one)} for one in self.found]
        return made[0] if self.alone else made


def _against(line: Line) -> str:
    return f" against {title_of(line.baseline)}" if line.baseline else ""


_MEANING: Mapping[Figure, str] = {
    "speed": "speed over the baseline's, with its 95% interval over blocks",
    "step": "seconds per step, geometric mean over blocks with its 95% interval",
    "memory": "peak memory of a step",
}


def _cells(row: Entry, several: bool, digits: int | None) -> list[Cell]:
    point, show = row.point, format_figure(row.figure, digits)
    missing = Cell(MISSING if point.status == "ok" else FAILED)
    interval = f"{show(point.low)} to {show(point.high)}" if point.low and point.high else MISSING
    return [
        *([Cell(row.line.name, name=row.model)] if several else []),
        Cell(point.commit[:SHORT]),
        Cell(point.created[:10]),
        missing if point.value is None else Cell(show(point.value), value=point.value),
        Cell(interval, value=point.low),
        Cell(_mark(row.line, point)),
        Cell(point.subject or ""),
    ]


def format_figure(figure: Figure, digits: int | None = None) -> Callable[[float], str]:
    """Formatter of a figure's values."""
    shown: Mapping[Figure, Callable[..., str]] = {
        "speed": format_ratio,
        "step": format_duration,
        "memory": format_bytes,
    }
    return partial(shown[figure], digits=digits)


def _mark(line: Line, point: Point) -> str:
    return next((describe(change) for change in line.changes if change.commit == point.commit), "")


def describe(change: LevelChange) -> str:
    """`× 1.24 (1.20 to 1.28), code`."""
    if change.low is None or change.high is None:
        return f"× {change.ratio:.3g}, {change.cause}"
    return f"× {change.ratio:.3g} ({change.low:.3g} to {change.high:.3g}), {change.cause}"


def newest_loss(found: Sequence[History], since: Collection[str] | None = None) -> str | None:
    """The newest change for the worse that is not noise and that nothing newer follows, in a line.

    since: commits that count; all of them if None.
    """
    losses = []
    for history_ in found:
        for line in history_.lines:
            confirmed = [change for change in line.changes if change.cause != "noise"]
            last = confirmed[-1] if confirmed else None
            if last is None or not is_worse(last, history_.figure):
                continue
            if since is None or last.commit in since:
                when = next(point.created for point in line.points if point.commit == last.commit)
                losses.append((when, f"{line.name}: {_sentence(last, history_.figure)}"))
    return max(losses)[1] if losses else None


def is_worse(change: LevelChange, figure: Figure) -> bool:
    return change.ratio < 1 if figure == "speed" else change.ratio > 1


def _sentence(change: LevelChange, figure: Figure) -> str:
    return f"{figure} {describe(change)} at {change.commit[:SHORT]} ({change.why})"
