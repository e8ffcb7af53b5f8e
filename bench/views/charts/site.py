"""A figure of all models over commits on one machine, changes marked with their cause, as SVG."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bench.system.extras import require
from bench.views.charts.data import Point
from bench.views.charts.history import points_of, some
from bench.views.charts.looks import Look, shown
from bench.views.charts.margins import changes_above
from bench.views.charts.style import Spec, alt, by_model, finished
from bench.views.history import SHORT, Line
from bench.views.shelf import Figure

Track = tuple[str, Line]
"""A model's title, with the settings that its line is of."""
WIDTH, HEIGHT = 760, 300

_AXES: Mapping[Figure, str] = {"speed": "Speed", "step": "ms per step", "memory": "Peak memory (MiB)"}


def svg(lines: Sequence[Track], figure: Figure, looks: Mapping[str, Look]) -> str:
    """The picture. looks: of all titles of the page, so that a model looks the same in all pictures."""
    text: str = require("vl_convert", "report").vegalite_to_svg(specification(lines, figure, looks))
    return text


def specification(lines: Sequence[Track], figure: Figure, looks: Mapping[str, Look]) -> Spec:
    """The picture as a Vega-Lite specification."""
    own = {name: looks[name] for name in shown(looks, (title for title, _ in lines))}
    points = [point for title, line in lines for point in _points(title, line, figure)]
    order = merged([[point.commit[:SHORT] for point in line.points] for _, line in lines])
    base = alt.Chart(alt.NamedData("points")).encode(
        x=alt.X(
            "commit:N",
            # As a sort it would be one expression, nested as deeply as there are commits.
            scale=alt.Scale(domain=["commits"]),
            title=None,
            axis=alt.Axis(labelAngle=-60, labelFont="monospace", labelFontSize=9, values=some(order)),
        ),
    )
    timed = base.transform_filter("datum.value !== null").encode(
        y=alt.Y("value:Q", title=_AXES[figure], scale=alt.Scale(type="log", nice=False, padding=12)),
        color=by_model(own, "color"),
    )
    changed = [point for point in points if point["change"] is not None]
    marks = changes_above(base, changed, order, WIDTH, HEIGHT)
    layers: list[Any] = [
        *([marks] if changed else []),
        timed.mark_rule(opacity=0.35, strokeWidth=2).encode(y="low:Q", y2="high:Q"),
        timed.mark_line(strokeWidth=1.5, opacity=0.6).encode(detail="level:N"),
        timed.mark_point(filled=True, opacity=1, size=36).encode(shape=by_model(own, "shape")),
    ]
    return finished(
        alt.layer(*layers).properties(width=WIDTH, height=HEIGHT), {"points": points}, {"commits": order}
    )


def merged(orders: Sequence[Sequence[str]]) -> list[str]:
    """One order of all commits: each stands right after the one that it follows where it was first seen."""
    after: dict[str | None, list[str]] = defaultdict(list)
    seen: set[str] = set()
    for commits in sorted(orders, key=len, reverse=True):
        for before, commit in itertools.pairwise([None, *commits]):
            if commit is not None and commit not in seen:
                seen.add(commit)
                after[before].append(commit)
    order: list[str] = []
    waiting: list[str] = list(after[None])
    while waiting:
        # What came to a place last stands nearest to it.
        commit = waiting.pop()
        order.append(commit)
        waiting += after[commit]
    return order


def _points(title: str, line: Line, figure: Figure) -> list[Point]:
    """A line's commits; the change at one is its ratio and cause."""
    changes = {
        change.commit[:SHORT]: f"{title} × {change.ratio:.3g}, {change.cause}" for change in line.changes
    }
    return [
        {
            **point,
            "model": title,
            "level": f"{title} {point['level']}",
            "change": changes.get(point["commit"]),
        }
        for point in points_of(line, figure)
    ]
