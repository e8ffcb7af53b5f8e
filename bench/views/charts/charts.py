"""Charts of result files: one definition each, for PNG, SVG and interactive HTML alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import UsageError
from bench.records.reading import Results
from bench.views.charts import data as chart_data
from bench.views.charts import placing as labels
from bench.views.charts.data import Point
from bench.views.charts.style import (
    HEIGHT,
    WIDTH,
    Chart,
    Spec,
    alt,
    base_chart,
    by_model,
    exact_scale,
    finished,
    lines_with_dots,
    placed_names,
    radius,
)
from bench.views.tables.table import Table, build_table

BUBBLES = [20, 1500]
"""Areas in square pixels, of the least and the largest."""


@dataclass(frozen=True)
class Definition:
    """A chart: what it shows, what it needs, and how it is drawn."""

    title: str
    needs: str
    data: Callable[[Table, Sequence[Results]], list[Point]]
    draw: Callable[[list[Point], Table], Chart]


def available(runs: Sequence[Results], baseline: str | None = None) -> dict[str, Spec]:
    """Every chart that these runs have data for, as Vega-Lite specifications by name."""
    table = build_table(*runs, baseline=baseline)
    return {
        name: _specification(definition, points, table, runs)
        for name, definition in CHARTS.items()
        if (points := definition.data(table, runs))
    }


def specification(runs: Sequence[Results], name: str | None = None, baseline: str | None = None) -> Spec:
    """One chart as a Vega-Lite specification; by default growth over lengths, or speed at a single one.

    Raises UsageError for an unknown chart, or where the runs lack what it needs.
    """
    table = build_table(*runs, baseline=baseline)
    name = name or ("growth" if chart_data.growth(table.rows) else "speed")
    if name not in CHARTS:
        raise UsageError(f"--chart {name}: choose {', '.join([*CHARTS, 'roofline'])}")
    definition = CHARTS[name]
    points = definition.data(table, runs)
    if not points:
        files = ", ".join(run.path for run in runs)
        raise UsageError(f"{files}: nothing to draw for {name}: it needs {definition.needs}")
    return _specification(definition, points, table, runs)


def provenance(runs: Sequence[Results]) -> list[str]:
    """Where the figures come from, a line for each run."""
    lines = []
    for run in runs:
        suite, environment = run.header.suite, run.header.environment
        precisions = ", ".join(suite.precisions)
        commit = f", commit {environment.commit[:9]}" if environment.commit else ""
        lines.append(
            f"{run.path}: {suite.name}, {suite.phase}, {precisions}, {environment.hardware}, "
            f"torch {environment.torch}, {run.header.created[:16]}{commit}"
        )
    return lines


def _specification(
    definition: Definition, points: list[Point], table: Table, runs: Sequence[Results]
) -> Spec:
    title = alt.TitleParams(definition.title, subtitle=provenance(runs), anchor="start", subtitleColor="#555")
    chart = definition.draw(points, table)
    return finished(chart.properties(title=title, description="\n".join(provenance(runs))))


def _speed(points: list[Point], table: Table) -> Chart:
    """Dots with their intervals, a line for each model, a row of panels for each length."""
    lengths = sorted({point["length"] for point in points})
    rows = []
    for length in lengths:
        chosen = [point for point in points if point["length"] == length]
        last = length == lengths[-1]
        panels = [
            _dots(points, chosen, "speed", f"Speed, 95% interval (× {table.baseline})" if last else ""),
            _dots(points, chosen, "memory", f"Peak memory (× {table.baseline})" if last else ""),
        ]
        title = f"Length {length}" if len(lengths) > 1 else ""
        rows.append(alt.hconcat(*panels, title=alt.TitleParams(title, fontSize=12)))
    return alt.vconcat(*rows) if len(rows) > 1 else rows[0]


def _dots(points: list[Point], chosen: list[Point], field: str, title: str) -> Chart:
    names = list(dict.fromkeys(point["model"] for point in chosen))
    base = base_chart(chosen).encode(y=alt.Y("model:N", sort=names, title=None))
    dots = base.mark_point(filled=True, opacity=1, size=80).encode(
        x=alt.X(f"{field}:Q", scale=_log_scale(), title=title, axis=_ratio_axis()),
        color=by_model(points, "color", legend=False),
        shape=by_model(points, "shape", legend=False),
        tooltip=["model:N", "length:Q", *_figures(field)],
    )
    parts = [_one("x"), dots]
    if field == "speed":
        parts.insert(1, base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q"))
    return alt.layer(*parts).properties(width=WIDTH / 2, height=max(60, 26 * len(names)))


def _log_scale() -> Any:
    return alt.Scale(type="log", nice=False, padding=16)


def _ratio_axis() -> Any:
    ticks = [factor * 10.0**power for power in range(-3, 4) for factor in (1, 2, 5)]
    return alt.Axis(values=ticks, format="~r")


def _one(axis: str) -> Chart:
    """The line at a ratio of 1."""
    data = alt.InlineData(values=[{"one": 1}])
    return alt.Chart(data).mark_rule(strokeDash=[3, 3]).encode(**{axis: "one:Q"})


def _figures(field: str) -> list[Any]:
    names = ["speed", "low", "high"] if field == "speed" else ["memory"]
    return [alt.Tooltip(f"{name}:Q", format=".3~r") for name in names]


def _growth(points: list[Point], table: Table) -> Chart:
    """Log on log, time beside memory, the slope at the end of each line."""
    quantities = dict.fromkeys(point["quantity"] for point in points)
    panels = [
        _growth_panel(points, [point for point in points if point["quantity"] == quantity], quantity)
        for quantity in quantities
    ]
    return alt.hconcat(*panels, spacing=60)


def _growth_panel(points: list[Point], chosen: list[Point], quantity: str) -> Chart:
    lengths = sorted({point["length"] for point in chosen})
    base = base_chart(chosen).encode(
        x=alt.X(
            "length:Q",
            scale=alt.Scale(type="log", base=2, nice=False),
            axis=alt.Axis(values=lengths, format="d", labelFlush=False),
            title="Sequence length",
        ),
        y=alt.Y("value:Q", scale=_log_scale(), title=f"{quantity}, a sequence"),
        color=by_model(points, "color"),
        tooltip=["model:N", "length:Q", alt.Tooltip("value:Q", format=".4~r"), "exponent:Q"],
    )
    ends = alt.InlineData(values=_apart([point for point in chosen if point["label"]], chosen))
    names = (
        alt.Chart(ends)
        .mark_text(align="left", dx=8, fontSize=11, limit=220)
        .encode(
            x="length:Q",
            y="label_value:Q",
            text="label:N",
            color=by_model(points, "color", legend=False),
        )
    )
    return (lines_with_dots(base, points) + names).properties(width=WIDTH * 0.7)


def _apart(ends: list[Point], chosen: list[Point]) -> list[Point]:
    """Labels at the ends of lines, each at least a line of 14 pixels above the one below it.

    Also where lines end at different lengths: a label reaches as far as the next length.
    """
    values = [point["value"] for point in chosen]
    step = (max(values) / min(values)) ** (14 / HEIGHT)
    placed: list[Point] = []
    for point in sorted(ends, key=lambda point: point["value"]):
        below = placed[-1]["label_value"] * step if placed else 0.0
        placed.append({**point, "label_value": max(point["value"], below)})
    return placed


def _trade_off(points: list[Point], table: Table) -> Chart:
    """Bubbles as the poster's first figure has them, each beside its name."""
    height, largest = HEIGHT * 1.2, max(point["memory"] for point in points)
    ends = [value for point in points for value in (point["low"], point["speed"], point["high"]) if value]
    x = labels.Axis.around(ends, WIDTH, padding=60, log=True)
    y = labels.Axis.around([point["accuracy"] for point in points], height, padding=50)
    points = [
        {**point, "label": point["model"], "radius": radius(point["memory"] / largest, BUBBLES)}
        for point in points
    ]
    points = labels.place(points, ("speed", x), ("accuracy", y))
    base = base_chart(points).encode(
        x=alt.X(
            "speed:Q",
            scale=exact_scale(x),
            axis=_ratio_axis(),
            title=f"Measured speed at length {points[0]['length']} (× {table.baseline})",
        ),
        y=alt.Y("accuracy:Q", scale=exact_scale(y), title="Published accuracy, average of the arena (%)"),
        tooltip=[
            "model:N",
            "length:Q",
            "accuracy:Q",
            *_figures("speed"),
            *_figures("memory"),
        ],
    )
    bubbles = base.mark_point(filled=True, opacity=0.55, stroke="#333", strokeWidth=1).encode(
        color=by_model(points, "color", legend=False),
        size=alt.Size(
            "memory:Q",
            legend=alt.Legend(title=f"Memory (× {table.baseline})", titleLimit=260, values=[0.1, 0.5, 1]),
            scale=alt.Scale(type="linear", domain=[0, largest], range=BUBBLES),
        ),
    )
    bars = base.mark_rule().encode(x="low:Q", x2="high:Q")
    return alt.layer(*placed_names(base), bubbles, bars).properties(height=height)


def _activation_by_layer(points: list[Point], table: Table) -> Chart:
    base = base_chart(points).encode(
        x=alt.X("layer:O", title="Layer", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("rate:Q", title="Activation rate", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
        color=by_model(points, "color"),
        tooltip=["model:N", "task:N", "layer:O", alt.Tooltip("rate:Q", format=".1%")],
    )
    lines = lines_with_dots(base, points)
    return lines.properties(width=WIDTH * 0.7).facet(alt.Facet("task:N", title=None), columns=2)


def _activation_sweep(points: list[Point], table: Table) -> Chart:
    base = base_chart(points).encode(
        x=alt.X(
            "rate:Q",
            title="Activation rate, as timed",
            axis=alt.Axis(format="%"),
            scale=alt.Scale(domain=[0, 1]),
        ),
        y=alt.Y("milliseconds:Q", title="ms a step", scale=alt.Scale(zero=True)),
        color=by_model(points, "color"),
        tooltip=[
            "model:N",
            alt.Tooltip("rate:Q", format=".1%"),
            alt.Tooltip("milliseconds:Q", format=".4~r"),
        ],
    )
    return lines_with_dots(base, points)


def _rounds(points: list[Point], table: Table) -> Chart:
    """Each timed run over its case's median, in the order made; a ring where it was disturbed."""
    base = base_chart(points).encode(
        x=alt.X("number:Q", title="Timed run, in the order made", axis=alt.Axis(tickMinStep=1)),
        y=alt.Y("relative:Q", title="Step time over the median of its case", scale=alt.Scale(zero=False)),
        tooltip=["case:N", "block:Q", alt.Tooltip("relative:Q", format=".3f"), "disturbed:N"],
    )
    dots = base.mark_point(filled=True, opacity=1, size=45).encode(
        color=by_model(points, "color"), shape=by_model(points, "shape")
    )
    layers = [_one("y"), dots]
    disturbed = [point for point in points if point["disturbed"] != "no"]
    if disturbed:
        ring = {"size": 160, "color": "#D55E00", "strokeWidth": 2}
        layers.append(base.properties(data=alt.InlineData(values=disturbed)).mark_point(**ring))
    return alt.layer(*layers).properties(width=WIDTH * 1.3)


CHARTS: Mapping[str, Definition] = {
    "speed": Definition(
        "Speed and memory of a step",
        "a model that was timed together with the baseline",
        lambda table, _: chart_data.ratios(table.rows),
        _speed,
    ),
    "growth": Definition(
        "Step time and memory over length; L^ is the measured growth",
        "a model that was measured at two lengths or more",
        lambda table, _: chart_data.growth(table.rows),
        _growth,
    ),
    "trade-off": Definition(
        "Published accuracy, measured speed; area: measured memory",
        "a timed model with a row in the published table",
        lambda table, _: chart_data.trade_off(table.rows),
        _trade_off,
    ),
    "activation": Definition(
        "Activation rate by layer",
        "a model with configurators",
        lambda table, _: chart_data.activation_by_layer(table.rows),
        _activation_by_layer,
    ),
    "activation-time": Definition(
        "Step time over activation rate",
        "a model that was timed at two activation rates or more (--activation 0.1,0.3,1.0)",
        lambda table, _: chart_data.activation_sweep(table.rows),
        _activation_sweep,
    ),
    "rounds": Definition(
        "Every timed run, in the order made",
        "a timed run",
        lambda _, runs: chart_data.rounds(runs),
        _rounds,
    ),
}
