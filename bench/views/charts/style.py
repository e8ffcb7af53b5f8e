"""Common parts of all charts: scales, legends, sizes, and how one becomes a file."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from bench.errors import UsageError
from bench.system.extras import require
from bench.text.escape import script_json
from bench.views import pages
from bench.views.charts import placing as labels
from bench.views.charts.data import Point
from bench.views.charts.looks import Look

alt: Any = require("altair", "report")
"""Altair: whoever imports this module draws. Its types are not named here, since it is optional."""

WIDTH, HEIGHT = 520, 300
MARK = "#D55E00"
"""Colour of what is marked, whatever its model's."""

Spec = dict[str, Any]
Channel = Literal["color", "shape", "strokeDash"]
Chart = Any
"""An Altair chart."""


def save(spec: Spec, path: Path) -> None:
    """Write a specification as its suffix says: .svg, .png, .pdf, .html or .json. Raises UsageError."""
    if path.suffix not in _WRITERS:
        raise UsageError(f"{path}: must end in {', '.join(_WRITERS)}")
    content = _WRITERS[path.suffix](spec)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None


_WRITERS: Mapping[str, Callable[[Spec], bytes]] = {
    ".svg": lambda spec: str(_converter().vegalite_to_svg(spec)).encode(),
    ".png": lambda spec: bytes(_converter().vegalite_to_png(spec, scale=2)),
    ".pdf": lambda spec: bytes(_converter().vegalite_to_pdf(spec)),
    ".html": lambda spec: _page(spec).encode(),
    ".json": lambda spec: msgspec.json.format(msgspec.json.encode(spec)),
}


def _converter() -> Any:
    return require("vl_convert", "report")


def presented(spec: Spec, title: str | None, width: int | None, height: int | None) -> Spec:
    """A chart with a title of the user's, without the files below it, and with axes of another size.

    width, height: pixels of the largest panel; the others keep their proportion to it.
    """
    made = dict(spec)
    if title is not None:
        made["title"] = {"text": title, "anchor": "start"}
    for side, wanted in (("width", width), ("height", height)):
        largest = max(_sizes(made, side), default=0)
        if wanted is not None and largest:
            made = _scaled(made, side, wanted / largest)
    return made


_NO_VIEWS = ("data", "datasets", "config", "encoding", "mark", "params", "title", "transform")
"""Parts of a specification that have no panels in them."""


def _sizes(part: Any, side: str) -> list[float]:
    """Widths or heights of the panels."""
    if isinstance(part, list):
        return [size for each in part for size in _sizes(each, side)]
    if not isinstance(part, dict):
        return []
    own = [part[side]] if isinstance(part.get(side), int | float) else []
    return own + [size for key, each in part.items() if key not in _NO_VIEWS for size in _sizes(each, side)]


def _scaled(part: Any, side: str, factor: float) -> Any:
    if isinstance(part, list):
        return [_scaled(each, side, factor) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        key: each * factor
        if key == side and isinstance(each, int | float)
        else each
        if key in _NO_VIEWS
        else _scaled(each, side, factor)
        for key, each in part.items()
    }


def _page(spec: Spec) -> str:
    """An interactive page of our own: Altair's would run a model's name as a script."""
    return pages.render(
        "chart.html.jinja",
        title=spec["title"]["text"],
        specification=script_json(spec),
        library=pages.chart_library(),
    )


def finished(
    chart: Chart, data: Mapping[str, Sequence[Point]] = {}, orders: Mapping[str, Sequence[str]] = {}
) -> Spec:
    """A chart with the looks that all of them share.

    data: what its `alt.NamedData` are, by name. orders: long domains, by the one entry that stands for each
    in the chart. Altair would take seconds to copy and check thousands of either.
    """
    # Given as attributes: each method that configures a chart copies all of it.
    chart.config = alt.Config(
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(gridColor="#e4e4e4", labelFontSize=11),
        legend=alt.LegendConfig(
            symbolSize=90,
            labelLimit=260,
            symbolBaseFillColor="#555",
            symbolBaseStrokeColor="#555",
            symbolOpacity=1,
        ),
    )
    spec: Spec = _ordered(chart.to_dict(), orders)
    return {**spec, "datasets": {**spec.get("datasets", {}), **data}} if data else spec


def _ordered(part: Any, orders: Mapping[str, Sequence[str]]) -> Any:
    """The part of a specification with whole domains."""
    if not orders:
        return part
    if isinstance(part, list):
        return [_ordered(each, orders) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        key: list(orders[each[0]])
        if key == "domain" and len(each) == 1 and each[0] in orders
        else _ordered(each, orders)
        for key, each in part.items()
    }


def by_model(looks: Mapping[str, Look], channel: Channel, legend: bool = True) -> Any:
    """Colour, shape or dash of models: the same names in all channels, so that legends become one."""
    names = list(looks)
    chosen = {
        "color": [look.colour for look in looks.values()],
        "shape": [look.shape for look in looks.values()],
        "strokeDash": [list(look.dash) for look in looks.values()],
    }[channel]
    kind = {"color": alt.Color, "shape": alt.Shape, "strokeDash": alt.StrokeDash}[channel]
    options = {} if legend else {"legend": None}
    return kind("model:N", scale=alt.Scale(domain=names, range=chosen), title=None, sort=names, **options)


def line_at_one(axis: Literal["x", "y"]) -> Chart:
    """The line at a ratio of 1."""
    data = alt.InlineData(values=[{"one": 1}])
    return alt.Chart(data).mark_rule(strokeDash=[3, 3]).encode(**{axis: "one:Q"})


def base_chart(points: list[Point]) -> Chart:
    return alt.Chart(alt.InlineData(values=points)).properties(width=WIDTH, height=HEIGHT)


def lines_with_dots(base: Chart, looks: Mapping[str, Look], legend: bool = True) -> Chart:
    """A line for each model, dashes and shapes apart: dashes would spoil the legend's symbols."""
    base = base.encode(color=by_model(looks, "color", legend))
    lines = base.mark_line().encode(strokeDash=by_model(looks, "strokeDash", legend=False))
    dots = base.mark_point(filled=True, opacity=1, size=70).encode(shape=by_model(looks, "shape", legend))
    return (lines + dots).resolve_legend(strokeDash="independent")


def radius(part: float, areas: Sequence[float]) -> float:
    """In pixels, of a bubble at that part of a linear scale of areas."""
    return math.sqrt((areas[0] + part * (areas[1] - areas[0])) / math.pi)


def exact_scale(axis: labels.Axis) -> Any:
    """The scale on which names were placed."""
    kind = {"type": "log"} if axis.log else {"zero": False}
    return alt.Scale(domain=[axis.low, axis.high], nice=False, **kind)


def placed_names(base: Chart) -> list[Chart]:
    """The labels of placed points, with a line to each point that its label is not beside."""
    lines = base.mark_rule(color="#999").encode(x2="line_x:Q", y2="line_y:Q").transform_filter("datum.far")
    place = {"x": alt.X("label_x:Q"), "y": alt.Y("label_y:Q")}
    return [lines, base.mark_text(fontSize=11).encode(text="label:N", **place)]
