"""Charts with lines: figures over length, layers, activation rates, and runs in the order made."""

from collections.abc import Mapping

from bench.views.charts import placing as labels
from bench.views.charts.data import Point
from bench.views.charts.looks import Look, shown
from bench.views.charts.style import (
    HEIGHT,
    MARK,
    WIDTH,
    Chart,
    alt,
    base_chart,
    by_model,
    exact_scale,
    line_at_one,
    lines_with_dots,
)

PANEL = WIDTH * 0.7


def growth(points: list[Point], looks: Mapping[str, Look], baseline: str) -> Chart:
    """Log on log, time beside memory; each line's name and slope in the margin."""
    quantities = dict.fromkeys(point["quantity"] for point in points)
    panels = [
        _growth_panel([point for point in points if point["quantity"] == quantity], looks, quantity)
        for quantity in quantities
    ]
    return alt.hconcat(*panels, spacing=40)


def _growth_panel(chosen: list[Point], looks: Mapping[str, Look], quantity: str) -> Chart:
    ends = [point for point in chosen if point["label"]]
    height = max(float(HEIGHT), labels.LINE * len(ends))
    y = labels.Axis.around([point["value"] for point in chosen], height, padding=16, log=True)
    lengths = sorted({point["length"] for point in chosen})
    own = {name: looks[name] for name in shown(looks, (point["model"] for point in chosen))}
    base = base_chart(chosen).encode(
        x=alt.X(
            "length:Q",
            scale=alt.Scale(type="log", base=2, nice=False),
            axis=alt.Axis(values=lengths, format="d", labelFlush=False, labelOverlap=True),
            title="Sequence length",
        ),
        y=alt.Y("value:Q", scale=exact_scale(y), title=f"{quantity} per sequence"),
        tooltip=["model:N", "length:Q", alt.Tooltip("value:Q", format=".4~r"), "exponent:Q"],
    )
    names = _names_in_the_margin(base, ends, y, own)
    lines = lines_with_dots(base, own, legend=False)
    return alt.layer(*names, lines).properties(width=PANEL, height=height)


def _names_in_the_margin(
    base: Chart, ends: list[Point], y: labels.Axis, looks: Mapping[str, Look]
) -> list[Chart]:
    """The names right of all lines, each with a line to the end that it is of."""
    pixels = labels.spread([y.pixel(point["value"]) for point in ends], y.pixels)
    placed = [{**point, "label_value": y.value(pixel)} for point, pixel in zip(ends, pixels, strict=True)]
    here = base.properties(data=alt.InlineData(values=placed))
    leaders = here.mark_rule(opacity=0.6).encode(
        x2=_margin(24),
        y2="label_value:Q",
        color=by_model(looks, "color", legend=False),
    )
    names = here.mark_text(align="left", fontSize=11, limit=260).encode(
        x=_margin(28), y="label_value:Q", text="label:N"
    )
    return [leaders, names]


def _margin(pixels: int) -> object:
    """So far right of the axes."""
    return alt.value(PANEL + pixels)


def activation_by_layer(points: list[Point], looks: Mapping[str, Look], baseline: str) -> Chart:
    base = base_chart(points).encode(
        x=alt.X("layer:O", title="Layer", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("rate:Q", title="Activation rate", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
        tooltip=["model:N", "task:N", "layer:O", alt.Tooltip("rate:Q", format=".1%")],
    )
    lines = lines_with_dots(base, looks)
    return lines.properties(width=PANEL).facet(alt.Facet("task:N", title=None), columns=2)


def activation_sweep(points: list[Point], looks: Mapping[str, Look], baseline: str) -> Chart:
    base = base_chart(points).encode(
        x=alt.X(
            "rate:Q",
            title="Activation rate, as timed",
            axis=alt.Axis(format="%"),
            scale=alt.Scale(domain=[0, 1]),
        ),
        y=alt.Y("milliseconds:Q", title="ms per step", scale=alt.Scale(zero=True)),
        tooltip=[
            "model:N",
            alt.Tooltip("rate:Q", format=".1%"),
            alt.Tooltip("milliseconds:Q", format=".4~r"),
        ],
    )
    return lines_with_dots(base, looks)


def rounds(points: list[Point], looks: Mapping[str, Look], baseline: str) -> Chart:
    """Each timed run over its case's median, in the order made; a ring if it was disturbed."""
    base = base_chart(points).encode(
        x=alt.X("number:Q", title="Timed run, in the order made", axis=alt.Axis(tickMinStep=1)),
        y=alt.Y("relative:Q", title="Step time over the median of its case", scale=alt.Scale(zero=False)),
        tooltip=["case:N", "block:Q", alt.Tooltip("relative:Q", format=".3f"), "disturbed:N"],
    )
    dots = base.mark_point(filled=True, opacity=1, size=45).encode(
        color=by_model(looks, "color"), shape=by_model(looks, "shape")
    )
    layers = [line_at_one("y"), dots]
    disturbed = [point for point in points if point["disturbed"] != "no"]
    if disturbed:
        ring = {"size": 160, "color": MARK, "strokeWidth": 2}
        layers.append(base.properties(data=alt.InlineData(values=disturbed)).mark_point(**ring))
    return alt.layer(*layers).properties(width=WIDTH * 1.3)
