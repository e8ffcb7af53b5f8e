"""Charts of throughput: over the length of sequences, and over their number."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.views.charts import placing as labels
from bench.views.charts.data import Point
from bench.views.charts.looks import Look
from bench.views.charts.style import (
    HEIGHT,
    WIDTH,
    Chart,
    alt,
    base_chart,
    by_model,
    exact_scale,
    lines_with_dots,
    placed_names,
)

RADIUS = 5
"""Pixels of a dot, about."""


def over_lengths(points: list[Point], looks: Mapping[str, Look], baseline: str) -> Chart:
    """Tokens per second over length, the batch written above each dot."""
    x, y = (
        labels.Axis.around([point[field] for point in points], pixels, padding=30, log=True)
        for field, pixels in (("length", WIDTH), ("value", HEIGHT))
    )
    dots = [{**point, "radius": RADIUS} for point in points]
    lines = [
        [(point["length"], point["value"]) for point in points if point["model"] == name] for name in looks
    ]
    base = base_chart(labels.place(dots, ("length", x), ("value", y), lines)).encode(
        x=_powers_of_two("length", points, "Sequence length", exact_scale(x)),
        y=alt.Y("value:Q", scale=exact_scale(y), title="Tokens/s", axis=alt.Axis(format="~s")),
        tooltip=["model:N", "length:Q", "batch:Q", alt.Tooltip("value:Q", format=".4~s")],
    )
    # Names in the colour of their line, with its legend: one without would take the legend from all layers.
    batches = [each.encode(color=by_model(looks, "color")) for each in placed_names(base)]
    return alt.layer(*batches, lines_with_dots(base, looks)).properties(width=WIDTH, height=HEIGHT)


def over_batches(points: list[Point], looks: Mapping[str, Look], baseline: str) -> Chart:
    """Throughput beside memory, over the batch."""
    quantities = dict.fromkeys(point["quantity"] for point in points)
    panels = [
        _batch_panel([point for point in points if point["quantity"] == quantity], looks, quantity)
        for quantity in quantities
    ]
    return alt.hconcat(*panels, spacing=60)


def _batch_panel(chosen: list[Point], looks: Mapping[str, Look], quantity: str) -> Chart:
    base = base_chart(chosen).encode(
        x=_powers_of_two("batch", chosen, "Sequences per step"),
        y=alt.Y("value:Q", scale=_log(), title=quantity, axis=alt.Axis(format="~s")),
        tooltip=["model:N", "batch:Q", alt.Tooltip("value:Q", format=".4~s")],
    )
    return lines_with_dots(base, looks).properties(width=WIDTH * 0.7)


def _powers_of_two(field: str, points: Sequence[Point], title: str, scale: Any = None) -> Any:
    return alt.X(
        f"{field}:Q",
        scale=scale or alt.Scale(type="log", base=2, nice=False, padding=16),
        axis=alt.Axis(values=sorted({point[field] for point in points}), format="d", labelFlush=False),
        title=title,
    )


def _log() -> Any:
    return alt.Scale(type="log", nice=False, padding=16)
