"""Charts of result files: one definition each, for PNG, SVG and interactive HTML alike.

Colours are told apart by the colour-blind (Okabe and Ito), and shapes by whoever prints in grey.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import chart_data, labels, pages
from bench.chart_data import Point
from bench.errors import UsageError
from bench.extras import require
from bench.markup import script_json
from bench.profile_record import Profile
from bench.record import Results
from bench.tables import Table, build_table

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#8C6D31")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
"""As many as are prime to the colours, so that models share both only when there are very many."""
DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [4, 4])
WIDTH, HEIGHT = 520, 300
SUFFIXES = (".svg", ".png", ".html", ".json")

Spec = dict[str, Any]
Chart = Any
"""An Altair chart; Altair is optional, so its types are not named here."""


@dataclass(frozen=True)
class Definition:
    """A chart: what it shows, what it needs, and how it is drawn."""

    title: str
    needs: str
    data: Callable[[Table, Sequence[Results]], list[Point]]
    draw: Callable[[Any, list[Point], Table], Chart]


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


def save(spec: Spec, path: Path) -> None:
    """Write a specification as its file's suffix says: .svg, .png, .html or .json. Raises UsageError."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: must end in {', '.join(SUFFIXES)}")
    altair = require("altair", "report")
    require("vl_convert", "report")
    try:
        if path.suffix == ".html":
            path.write_text(_page(spec), encoding="utf-8")
        else:
            altair.Chart.from_dict(spec).save(
                str(path), **({"scale_factor": 2} if path.suffix == ".png" else {})
            )
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None


def _page(spec: Spec) -> str:
    """An interactive page of our own: Altair's would run a model's name as a script."""
    return pages.render(
        "chart.html.jinja",
        title=spec["title"]["text"],
        specification=script_json(spec),
        library=pages.chart_library(),
    )


def provenance(runs: Sequence[Results]) -> list[str]:
    """Where the figures come from, a line for each run."""
    lines = []
    for run in runs:
        suite, environment = run.header.suite, run.header.environment
        commit = f", commit {environment.commit[:9]}" if environment.commit else ""
        lines.append(
            f"{run.path}: {suite.name}, {suite.phase}, {suite.precision}, {environment.hardware}, "
            f"torch {environment.torch}, {run.header.created[:16]}{commit}"
        )
    return lines


def _specification(
    definition: Definition, points: list[Point], table: Table, runs: Sequence[Results]
) -> Spec:
    altair = require("altair", "report")
    title = altair.TitleParams(
        definition.title, subtitle=provenance(runs), anchor="start", subtitleColor="#555"
    )
    chart = definition.draw(altair, points, table)
    return finished(chart.properties(title=title, description="\n".join(provenance(runs))))


def finished(chart: Chart) -> Spec:
    """A chart with the looks that all of them share."""
    chart = chart.configure_view(stroke=None).configure_axis(gridColor="#e4e4e4", labelFontSize=11)
    spec: Spec = chart.configure_legend(symbolSize=90, labelLimit=260).to_dict()
    return spec


def by_model(altair: Any, points: Sequence[Point], channel: str, legend: bool = True) -> Any:
    """Colour, shape or dash of a model: the same in all channels, so that legends become one."""
    names = list(dict.fromkeys(point["model"] for point in points))
    values: Mapping[str, Sequence[Any]] = {"color": COLOURS, "shape": SHAPES, "strokeDash": DASHES}
    chosen = [values[channel][number % len(values[channel])] for number in range(len(names))]
    kind = {"color": altair.Color, "shape": altair.Shape, "strokeDash": altair.StrokeDash}[channel]
    options = {} if legend else {"legend": None}
    return kind("model:N", scale=altair.Scale(domain=names, range=chosen), title=None, sort=names, **options)


def _base(altair: Any, points: list[Point]) -> Chart:
    return altair.Chart(altair.InlineData(values=points)).properties(width=WIDTH, height=HEIGHT)


def _lines_with_dots(altair: Any, base: Chart, points: Sequence[Point]) -> Chart:
    """A line for each model, dashes and shapes apart: dashes would spoil the legend's symbols."""
    lines = base.mark_line().encode(strokeDash=by_model(altair, points, "strokeDash", legend=False))
    dots = base.mark_point(filled=True, opacity=1, size=70).encode(shape=by_model(altair, points, "shape"))
    return (lines + dots).resolve_legend(strokeDash="independent")


def _speed(altair: Any, points: list[Point], table: Table) -> Chart:
    """Dots with their intervals, a line for each model, a row of panels for each length."""
    lengths = sorted({point["length"] for point in points})
    rows = []
    for length in lengths:
        chosen = [point for point in points if point["length"] == length]
        last = length == lengths[-1]
        panels = [
            _dots(
                altair, points, chosen, "speed", f"Speed, 95% interval (× {table.baseline})" if last else ""
            ),
            _dots(altair, points, chosen, "memory", f"Peak memory (× {table.baseline})" if last else ""),
        ]
        title = f"Length {length}" if len(lengths) > 1 else ""
        rows.append(altair.hconcat(*panels, title=altair.TitleParams(title, fontSize=12)))
    return altair.vconcat(*rows) if len(rows) > 1 else rows[0]


def _dots(altair: Any, points: list[Point], chosen: list[Point], field: str, title: str) -> Chart:
    names = list(dict.fromkeys(point["model"] for point in chosen))
    base = _base(altair, chosen).encode(y=altair.Y("model:N", sort=names, title=None))
    dots = base.mark_point(filled=True, opacity=1, size=80).encode(
        x=altair.X(f"{field}:Q", scale=_log_scale(altair), title=title, axis=_ratio_axis(altair)),
        color=by_model(altair, points, "color", legend=False),
        shape=by_model(altair, points, "shape", legend=False),
        tooltip=["model:N", "length:Q", *_figures(altair, field)],
    )
    parts = [_one(altair, "x"), dots]
    if field == "speed":
        parts.insert(1, base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q"))
    return altair.layer(*parts).properties(width=WIDTH / 2, height=max(60, 26 * len(names)))


def _log_scale(altair: Any) -> Any:
    return altair.Scale(type="log", nice=False, padding=16)


def _ratio_axis(altair: Any) -> Any:
    ticks = [factor * 10.0**power for power in range(-3, 4) for factor in (1, 2, 5)]
    return altair.Axis(values=ticks, format="~r")


def _one(altair: Any, axis: str) -> Chart:
    """The line at a ratio of 1."""
    data = altair.InlineData(values=[{"one": 1}])
    return altair.Chart(data).mark_rule(strokeDash=[3, 3]).encode(**{axis: "one:Q"})


def _figures(altair: Any, field: str) -> list[Any]:
    names = ["speed", "low", "high"] if field == "speed" else ["memory"]
    return [altair.Tooltip(f"{name}:Q", format=".3~r") for name in names]


def _growth(altair: Any, points: list[Point], table: Table) -> Chart:
    """Log on log, time beside memory, the slope at the end of each line."""
    quantities = dict.fromkeys(point["quantity"] for point in points)
    panels = [
        _growth_panel(altair, points, [point for point in points if point["quantity"] == quantity], quantity)
        for quantity in quantities
    ]
    return altair.hconcat(*panels, spacing=60)


def _growth_panel(altair: Any, points: list[Point], chosen: list[Point], quantity: str) -> Chart:
    lengths = sorted({point["length"] for point in chosen})
    base = _base(altair, chosen).encode(
        x=altair.X(
            "length:Q",
            scale=altair.Scale(type="log", base=2, nice=False),
            axis=altair.Axis(values=lengths, format="d", labelFlush=False),
            title="Sequence length",
        ),
        y=altair.Y("value:Q", scale=_log_scale(altair), title=f"{quantity}, a sequence"),
        color=by_model(altair, points, "color"),
        tooltip=["model:N", "length:Q", altair.Tooltip("value:Q", format=".4~r"), "exponent:Q"],
    )
    ends = altair.InlineData(values=_apart([point for point in chosen if point["label"]], chosen))
    names = (
        altair.Chart(ends)
        .mark_text(align="left", dx=8, fontSize=11, limit=220)
        .encode(
            x="length:Q",
            y="label_value:Q",
            text="label:N",
            color=by_model(altair, points, "color", legend=False),
        )
    )
    return (_lines_with_dots(altair, base, points) + names).properties(width=WIDTH * 0.7)


def _apart(ends: list[Point], chosen: list[Point]) -> list[Point]:
    """Labels at the ends of lines, moved up where one would cover another (14 pixels a line)."""
    values = [point["value"] for point in chosen]
    step = (max(values) / min(values)) ** (14 / HEIGHT)
    placed: list[Point] = []
    for point in sorted(ends, key=lambda point: point["value"]):
        below = (
            placed[-1]["label_value"] * step if placed and placed[-1]["length"] == point["length"] else 0.0
        )
        placed.append({**point, "label_value": max(point["value"], below)})
    return placed


def _trade_off(altair: Any, points: list[Point], table: Table) -> Chart:
    """Bubbles as the poster's first figure has them, each beside its name."""
    height, largest = HEIGHT * 1.2, max(point["memory"] for point in points)
    ends = [value for point in points for value in (point["low"], point["speed"], point["high"]) if value]
    x = labels.Axis.around(ends, WIDTH, padding=60, log=True)
    y = labels.Axis.around([point["accuracy"] for point in points], height, padding=50)
    points = [
        {**point, "label": point["model"], "radius": _radius(point["memory"] / largest, BUBBLES)}
        for point in points
    ]
    points = labels.place(points, ("speed", x), ("accuracy", y))
    base = _base(altair, points).encode(
        x=altair.X(
            "speed:Q",
            scale=_exact(altair, x),
            axis=_ratio_axis(altair),
            title=f"Measured speed at length {points[0]['length']} (× {table.baseline})",
        ),
        y=altair.Y(
            "accuracy:Q", scale=_exact(altair, y), title="Published accuracy, average of the arena (%)"
        ),
        tooltip=[
            "model:N",
            "length:Q",
            "accuracy:Q",
            *_figures(altair, "speed"),
            *_figures(altair, "memory"),
        ],
    )
    bubbles = base.mark_point(filled=True, opacity=0.55, stroke="#333", strokeWidth=1).encode(
        color=by_model(altair, points, "color", legend=False),
        size=altair.Size(
            "memory:Q",
            legend=altair.Legend(title=f"Memory (× {table.baseline})", titleLimit=260, values=[0.1, 0.5, 1]),
            scale=altair.Scale(type="linear", domain=[0, largest], range=BUBBLES),
        ),
    )
    bars = base.mark_rule().encode(x="low:Q", x2="high:Q")
    return altair.layer(*_names(altair, base), bubbles, bars).properties(height=height)


BUBBLES = [20, 1500]
"""Areas in square pixels, of the least and the largest."""


def _radius(part: float, areas: Sequence[float]) -> float:
    """In pixels, of a bubble at that part of a linear scale of areas."""
    return math.sqrt((areas[0] + part * (areas[1] - areas[0])) / math.pi)


def _exact(altair: Any, axis: labels.Axis) -> Any:
    """The scale on which names were placed."""
    kind = {"type": "log"} if axis.log else {"zero": False}
    return altair.Scale(domain=[axis.low, axis.high], nice=False, **kind)


def _names(altair: Any, base: Chart) -> list[Chart]:
    """The labels of placed points, with a line to each point that its label is not beside."""
    lines = base.mark_rule(color="#999").encode(x2="label_x:Q", y2="label_y:Q").transform_filter("datum.far")
    place = {"x": altair.X("label_x:Q"), "y": altair.Y("label_y:Q")}
    return [lines, base.mark_text(fontSize=11).encode(text="label:N", **place)]


def _activation_by_layer(altair: Any, points: list[Point], table: Table) -> Chart:
    base = _base(altair, points).encode(
        x=altair.X("layer:O", title="Layer", axis=altair.Axis(labelAngle=0)),
        y=altair.Y(
            "rate:Q", title="Activation rate", axis=altair.Axis(format="%"), scale=altair.Scale(domain=[0, 1])
        ),
        color=by_model(altair, points, "color"),
        tooltip=["model:N", "task:N", "layer:O", altair.Tooltip("rate:Q", format=".1%")],
    )
    lines = _lines_with_dots(altair, base, points)
    return lines.properties(width=WIDTH * 0.7).facet(altair.Facet("task:N", title=None), columns=2)


def _activation_sweep(altair: Any, points: list[Point], table: Table) -> Chart:
    base = _base(altair, points).encode(
        x=altair.X(
            "rate:Q",
            title="Activation rate, as timed",
            axis=altair.Axis(format="%"),
            scale=altair.Scale(domain=[0, 1]),
        ),
        y=altair.Y("milliseconds:Q", title="ms a step", scale=altair.Scale(zero=True)),
        color=by_model(altair, points, "color"),
        tooltip=[
            "model:N",
            altair.Tooltip("rate:Q", format=".1%"),
            altair.Tooltip("milliseconds:Q", format=".4~r"),
        ],
    )
    return _lines_with_dots(altair, base, points)


def _rounds(altair: Any, points: list[Point], table: Table) -> Chart:
    """Each timed run over its case's median, in the order made; a ring where the GPU was throttled."""
    base = _base(altair, points).encode(
        x=altair.X("number:Q", title="Timed run, in the order made", axis=altair.Axis(tickMinStep=1)),
        y=altair.Y(
            "relative:Q", title="Step time over the median of its case", scale=altair.Scale(zero=False)
        ),
        tooltip=["case:N", "block:Q", altair.Tooltip("relative:Q", format=".3f"), "throttled:N"],
    )
    dots = base.mark_point(filled=True, opacity=1, size=45).encode(
        color=by_model(altair, points, "color"), shape=by_model(altair, points, "shape")
    )
    layers = [_one(altair, "y"), dots]
    throttled = [point for point in points if point["throttled"] != "no"]
    if throttled:
        ring = {"size": 160, "color": "#D55E00", "strokeWidth": 2}
        layers.append(base.properties(data=altair.InlineData(values=throttled)).mark_point(**ring))
    return altair.layer(*layers).properties(width=WIDTH * 1.3)


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


def roofline(profiles: Sequence[Profile]) -> Spec:
    """Stages of profiles under the ceilings of their device. Raises UsageError where devices differ."""
    altair = require("altair", "report")
    ceilings = profiles[0].ceilings
    if len({profile.environment.machine for profile in profiles}) > 1:
        raise UsageError("roofline: the profiles come from different machines, whose ceilings differ")
    points = chart_data.roofline(profiles)
    if not points:
        raise UsageError("roofline: no stage of these profiles has a time, FLOPs and bytes")
    roof = chart_data.roof(ceilings, [point["intensity"] for point in points])
    most = max(point["share"] for point in points)
    points = [
        {**point, "label": point["stage"], "radius": _radius(point["share"] / most, STAGE_DOTS)}
        for point in points
    ]
    x, y = (
        labels.Axis.around([place[field] for place in (*roof, *points)], pixels, padding=30, log=True)
        for field, pixels in (("intensity", WIDTH), ("rate", HEIGHT))
    )
    points = labels.place(points, ("intensity", x), ("rate", y))
    powers = [10.0**power for power in range(-6, 18)]
    base = _base(altair, points).encode(
        x=altair.X(
            "intensity:Q",
            scale=_exact(altair, x),
            title="FLOPs a byte moved",
            axis=altair.Axis(values=powers, format="~g"),
        ),
        y=altair.Y(
            "rate:Q", scale=_exact(altair, y), title="FLOP/s", axis=altair.Axis(values=powers, format="~s")
        ),
        tooltip=["model:N", "stage:N", altair.Tooltip("share:Q", format=".1%"), "rate:Q", "intensity:Q"],
    )
    dots = base.mark_point(filled=True, opacity=1).encode(
        color=by_model(altair, points, "color"),
        shape=by_model(altair, points, "shape"),
        size=altair.Size(
            "share:Q",
            title="Share of the step",
            legend=altair.Legend(format="%", tickCount=4),
            scale=altair.Scale(domain=[0, most], range=STAGE_DOTS),
        ),
    )
    line = altair.Chart(altair.InlineData(values=roof)).mark_line(color="#555", strokeDash=[6, 3])
    line = line.encode(x="intensity:Q", y="rate:Q")
    subtitle = [
        f"{profile.case.id}, {profile.environment.hardware}, {profile.created[:16]}" for profile in profiles
    ]
    limits = (
        f"dashed: {ceilings.flops_per_second / 1e9:,.4g} GFLOP/s, "
        f"{ceilings.bytes_per_second / 1e9:,.4g} GB/s, measured there"
    )
    title = altair.TitleParams(
        "Stages under the roofline", subtitle=[*subtitle, limits], anchor="start", subtitleColor="#555"
    )
    chart = altair.layer(*_names(altair, base), line, dots)
    return finished(chart.properties(title=title, description="\n".join(subtitle)))


STAGE_DOTS = [25, 400]
"""Areas in square pixels, of the least share of a step and the largest."""
