"""Words above a chart, each at a line up from its place: they cover no point, no line and no other word."""

from collections.abc import Sequence

from bench.views.charts import placing as labels
from bench.views.charts.data import Point
from bench.views.charts.style import MARK, Chart, alt

STEP = 13
"""Pixels from one line of words to the next."""


def rows_above(places: Sequence[float], texts: Sequence[str]) -> list[int]:
    """On which row above the frame each text stands, 0 the lowest. places: where it begins, in pixels.

    From the right to the left, so that the lines on which the higher ones stand cross none of the lower ones.
    """
    rows: dict[int, int] = {}
    order = sorted(range(len(texts)), key=lambda number: places[number], reverse=True)
    for number in order:
        end = places[number] + labels.LETTER * len(texts[number]) + 10
        near = [rows[other] for other in rows if places[other] < end]
        rows[number] = max(near, default=-1) + 1
    return [rows[number] for number in range(len(texts))]


def changes_above(
    base: Chart, points: Sequence[Point], order: Sequence[str], width: float, height: float
) -> Chart:
    """A line up from each change, its words at the upper end, above the frame.

    points: those with a `change`, at the `commit`s of an axis that has them in that order, evenly. width,
    height: of the chart.
    """
    step = width / len(order)
    number = {commit: place for place, commit in enumerate(order)}
    rows = rows_above(
        [step * (number[point["commit"]] + 0.5) for point in points], [point["change"] for point in points]
    )
    layers = []
    for row in sorted(set(rows)):
        chosen = [point for point, its in zip(points, rows, strict=True) if its == row]
        here = base.properties(data=alt.InlineData(values=chosen))
        top = alt.value(-STEP * (row + 1))
        layers += [
            here.mark_rule(color=MARK, strokeDash=[4, 3], strokeWidth=1.5).encode(
                y=alt.value(height), y2=top
            ),
            here.mark_text(align="left", baseline="top", dx=4, fontSize=11).encode(y=top, text="change:N"),
        ]
    return alt.layer(*layers)
