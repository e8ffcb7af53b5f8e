"""Charts of ratios to the baseline: speed beside memory, and speed against published accuracy."""

from collections.abc import Mapping
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
    line_at_one,
    placed_names,
    radius,
)

BUBBLES = [20, 1500]
"""Areas in square pixels, of the least and the largest."""
PANEL = WIDTH / 2


def speed(points: list[Point], looks: Mapping[str, Look], baseline: str) -> Chart:
    """Dots with their intervals, a line for each model, a row of panels for each length, on one scale."""
    lengths = sorted({point["length"] for point in points})
    interval = ", 95% interval" if any(point["low"] is not None for point in points) else ""
    titles = {"speed": f"Speed{interval} (× {baseline})", "memory": f"Peak memory (× {baseline})"}
    scales = {field: exact_scale(_axis(points, field)) for field in titles}
    rows = []
    for length in lengths:
        chosen = [point for point in points if point["length"] == length]
        panels = [
            _dots(chosen, looks, field, scales[field], title if length == lengths[-1] else "")
            for field, title in titles.items()
        ]
        title = f"Length {length}" if len(lengths) > 1 else ""
        rows.append(alt.hconcat(*panels, title=alt.TitleParams(title, fontSize=12)))
    return alt.vconcat(*rows) if len(rows) > 1 else rows[0]


def _axis(points: list[Point], field: str) -> labels.Axis:
    """The scale on which all points of a field fit, with their intervals and the baseline's 1."""
    fields = ("low", "speed", "high") if field == "speed" else (field,)
    values = [point[name] for point in points for name in fields]
    return labels.Axis.around([1.0, *filter(None, values)], PANEL, padding=16, log=True)


def _dots(chosen: list[Point], looks: Mapping[str, Look], field: str, scale: Any, title: str) -> Chart:
    names = list(dict.fromkeys(point["model"] for point in chosen))
    base = base_chart(chosen).encode(
        y=alt.Y("model:N", sort=names, title=None, axis=alt.Axis(labelLimit=220))
    )
    dots = base.mark_point(filled=True, opacity=1, size=80).encode(
        x=alt.X(f"{field}:Q", scale=scale, title=title, axis=_ratio_axis()),
        color=by_model(looks, "color", legend=False),
        shape=by_model(looks, "shape", legend=False),
        tooltip=["model:N", "length:Q", *_figures(field)],
    )
    parts = [line_at_one("x"), dots]
    if field == "speed":
        parts.insert(1, base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q"))
    return alt.layer(*parts).properties(width=PANEL, height=max(60, 26 * len(names)))


def _ratio_axis() -> Any:
    ticks = [factor * 10.0**power for power in range(-3, 4) for factor in (1, 2, 5)]
    return alt.Axis(values=ticks, format="~r", labelOverlap=True)


def _figures(field: str) -> list[Any]:
    names = ["speed", "low", "high"] if field == "speed" else ["memory"]
    return [alt.Tooltip(f"{name}:Q", format=".3~r") for name in names]


def trade_off(points: list[Point], looks: Mapping[str, Look], baseline: str) -> Chart:
    """Bubbles as the poster's first figure has them, each beside its name."""
    height, largest = HEIGHT * 1.2, max(point["memory"] for point in points)
    ends = [value for point in points for value in (point["low"], point["speed"], point["high"]) if value]
    x = labels.Axis.around(ends, WIDTH, padding=60, log=True)
    y = labels.Axis.around([point["accuracy"] for point in points], height, padding=50)
    points = [
        {**point, "label": point["model"], "radius": radius(point["memory"] / largest, BUBBLES)}
        for point in points
    ]
    intervals = [
        [(p[end], p["accuracy"]) for end in ("low", "high")] for p in points if p["low"] and p["high"]
    ]
    points = labels.place(points, ("speed", x), ("accuracy", y), intervals)
    base = base_chart(points).encode(
        x=alt.X(
            "speed:Q",
            scale=exact_scale(x),
            axis=_ratio_axis(),
            title=f"Measured speed at length {points[0]['length']} (× {baseline})",
        ),
        y=alt.Y("accuracy:Q", scale=exact_scale(y), title="Published accuracy, average of the arena (%)"),
        tooltip=["model:N", "length:Q", "accuracy:Q", *_figures("speed"), *_figures("memory")],
    )
    bubbles = base.mark_point(filled=True, opacity=0.6, stroke="#555", strokeWidth=1).encode(
        color=by_model(looks, "color", legend=False),
        shape=by_model(looks, "shape", legend=False),
        size=alt.Size(
            "memory:Q",
            legend=alt.Legend(title=f"Memory (× {baseline})", titleLimit=260, values=[0.1, 0.5, 1]),
            scale=alt.Scale(type="linear", domain=[0, largest], range=BUBBLES),
        ),
    )
    bars = base.mark_rule().encode(x="low:Q", x2="high:Q")
    return alt.layer(*placed_names(base), bubbles, bars).properties(height=height)
