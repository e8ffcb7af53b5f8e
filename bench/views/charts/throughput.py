"""Charts of throughput: over the length of sequences, and over their number."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.views.charts.data import Point
from bench.views.charts.looks import Look
from bench.views.charts.style import WIDTH, Chart, alt, base_chart, by_model, lines_with_dots


def over_lengths(points: list[Point], looks: Mapping[str, Look], baseline: str) -> Chart:
    """Tokens per second over length, the batch written above each dot."""
    base = base_chart(points).encode(
        x=_powers_of_two("length", points, "Sequence length"),
        y=alt.Y("value:Q", scale=_log(), title="Tokens/s", axis=alt.Axis(format="~s")),
        tooltip=["model:N", "length:Q", "batch:Q", alt.Tooltip("value:Q", format=".4~s")],
    )
    batches = base.mark_text(dy=-11, fontSize=10).encode(
        text="label:N", color=by_model(looks, "color", legend=False)
    )
    return (lines_with_dots(base, looks) + batches).properties(width=WIDTH)


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


def _powers_of_two(field: str, points: Sequence[Point], title: str) -> Any:
    return alt.X(
        f"{field}:Q",
        scale=alt.Scale(type="log", base=2, nice=False, padding=16),
        axis=alt.Axis(values=sorted({point[field] for point in points}), format="d", labelFlush=False),
        title=title,
    )


def _log() -> Any:
    return alt.Scale(type="log", nice=False, padding=16)
