"""The chart of a history: a panel for each line, dots with their intervals, changes of level marked."""

import math
import statistics
from collections.abc import Mapping, Sequence

from bench.errors import UsageError
from bench.views.charts.data import Point
from bench.views.charts.looks import Look, looks_of
from bench.views.charts.margins import changes_above
from bench.views.charts.style import HEIGHT, MARK, WIDTH, Chart, Spec, alt, finished
from bench.views.history import SHORT, History, Line
from bench.views.history_text import describe
from bench.views.shelf import Figure
from bench.views.tables.titles import title_of

_AXES: Mapping[Figure, tuple[str, float]] = {
    "speed": ("Speed, 95% interval", 1.0),
    "step": ("ms per step, 95% interval", 1e3),
    "memory": ("Peak memory (MiB)", 1 / (1 << 20)),
}
"""Title of the axis, and what a value is multiplied by."""
PANEL = WIDTH * 1.3


LABELS = 40
"""Commits that are named on an axis at most."""


def some(commits: Sequence[str]) -> list[str]:
    """Those that an axis names: all, or as many as it has room for."""
    return list(commits[:: max(1, math.ceil(len(commits) / LABELS))])


def specification(history: History) -> Spec:
    """The chart as a Vega-Lite specification. Raises UsageError if no commit has the figure."""
    lines = [line for line in history.lines if any(point.value is not None for point in line.points)]
    if not lines:
        raise UsageError(f"{history.model}, {history.suite}: nothing to draw: no stored run has its figure")
    model = title_of(history.model)
    look = looks_of([(model, model)])[model]
    points = {f"line {number}": points_of(line, history.figure) for number, line in enumerate(lines)}
    panels = [
        _panel(line, history.figure, look, name, points[name])
        for line, name in zip(lines, points, strict=True)
    ]
    title = alt.TitleParams(f"{model} over commits: {history.suite}", anchor="start", offset=12)
    orders = {name: commits_of(each) for name, each in points.items()}
    return finished(alt.vconcat(*panels, title=title), points, orders)


def commits_of(points: Sequence[Point]) -> list[str]:
    """Commits of a line, in the order of its axis."""
    return list(dict.fromkeys(point["commit"] for point in points))


def points_of(line: Line, figure: Figure) -> list[Point]:
    """A line's commits as plain rows, each with its level; what failed has no value."""
    scale = _AXES[figure][1]
    begins = {change.commit: change for change in line.changes}
    points: list[Point] = []
    level = 0
    for point in line.points:
        change = begins.get(point.commit)
        level += change is not None
        points.append(
            {
                "commit": point.commit[:SHORT],
                "subject": point.subject or "",
                "created": point.created[:10],
                "value": _scaled(point.value, scale),
                "low": _scaled(point.low, scale),
                "high": _scaled(point.high, scale),
                "level": level,
                "change": describe(change) if change else None,
                "failure": None if point.status == "ok" else f"{point.status}: {point.reason}",
            }
        )
    means = {
        number: statistics.geometric_mean(values)
        for number in range(level + 1)
        if (values := [p["value"] for p in points if p["level"] == number and p["value"] is not None])
    }
    return [{**point, "mean": means.get(point["level"])} for point in points]


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _panel(line: Line, figure: Figure, look: Look, name: str, points: Sequence[Point]) -> Chart:
    """name: of the points and of their commits, in the specification."""
    order = commits_of(points)
    against = f" (× {title_of(line.baseline)})" if line.baseline else ""
    base = alt.Chart(alt.NamedData(name)).encode(
        x=alt.X(
            "commit:N",
            # As a sort it would be one expression, nested as deeply as there are commits.
            scale=alt.Scale(domain=[name]),
            title=None,
            axis=alt.Axis(
                labelAngle=-45, labelOverlap=True, labelFont="monospace", values=some(order), ticks=False
            ),
        ),
        tooltip=["commit:N", "subject:N", "created:N", alt.Tooltip("value:Q", format=".4~r"), "failure:N"],
    )
    timed = base.transform_filter("datum.value !== null").encode(
        y=alt.Y("value:Q", title=f"{_AXES[figure][0]}{against}", scale=alt.Scale(zero=False, padding=14))
    )
    changes = [point for point in points if point["change"] is not None]
    marks = changes_above(base, changes, order, PANEL, HEIGHT * 0.7)
    layers = [
        *([marks] if changes else []),
        timed.mark_line(color=look.colour, strokeWidth=2, opacity=0.5).encode(y="mean:Q", detail="level:N"),
        timed.mark_rule(strokeWidth=2).encode(y="low:Q", y2="high:Q"),
        timed.mark_point(filled=True, opacity=1, size=60, color=look.colour, shape=look.shape),
        base.transform_filter("datum.failure !== null")
        .mark_text(text="X", fontWeight="bold", color=MARK)
        .encode(y=alt.value(HEIGHT * 0.7 - 8)),
    ]
    title = alt.TitleParams(
        line.name, subtitle=line.words, fontSize=12, subtitleColor="#555", anchor="start", offset=10
    )
    return alt.layer(*layers).properties(title=title, width=PANEL, height=HEIGHT * 0.7)
