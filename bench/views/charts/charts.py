"""Charts of result files: one definition each, for PNG, SVG and interactive HTML alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.errors import UsageError
from bench.records.reading import Results
from bench.views.charts import data as chart_data
from bench.views.charts import line_charts, ratio_charts, throughput
from bench.views.charts.data import Point
from bench.views.charts.looks import Look, looks_of, shown
from bench.views.charts.style import Chart, Spec, alt, finished
from bench.views.tables.table import Table, build_table


@dataclass(frozen=True)
class Definition:
    """A chart: what it shows, what it needs, and how it is drawn."""

    title: str
    needs: str
    data: Callable[[Table, Sequence[Results]], list[Point]]
    draw: Callable[[list[Point], Mapping[str, Look], str], Chart]
    """Draws the points, given each line's look and the baseline's title."""
    lines: Callable[[Table, Sequence[Results]], list[tuple[str, str]]] = lambda table, _: chart_data.lines_of(
        table.rows
    )
    """Titles of models, each with the name of a line, in the order of the table."""


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

    Raises UsageError for an unknown chart, or if the runs lack what it needs.
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
    """Origin of the figures, one line per run."""
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
    looks = looks_of(definition.lines(table, runs))
    names = shown(looks, (point["model"] for point in points))
    chart = definition.draw(points, {name: looks[name] for name in names}, table.baseline)
    chart.title, chart.description = title, "\n".join(provenance(runs))
    return finished(chart)


CHARTS: Mapping[str, Definition] = {
    "speed": Definition(
        "Speed and memory of a step",
        "a model that was timed together with the baseline",
        lambda table, _: chart_data.ratios(table.rows),
        ratio_charts.speed,
    ),
    "growth": Definition(
        "Step time and memory over length; L^ is the measured growth",
        "a model that was measured at two lengths or more",
        lambda table, _: chart_data.growth(table.rows),
        line_charts.growth,
    ),
    "throughput": Definition(
        "Throughput over length; the number is the batch",
        "a model that was timed at two lengths or more",
        lambda table, _: chart_data.throughput(table.rows),
        throughput.over_lengths,
    ),
    "batch": Definition(
        "Throughput and memory over batch",
        "a model that was measured at two batches or more (--batch 1,4,16)",
        lambda table, _: chart_data.over_batches(table.rows),
        throughput.over_batches,
        lambda table, _: chart_data.lines_over_batches(table.rows),
    ),
    "trade-off": Definition(
        "Published accuracy, measured speed; area: measured memory",
        "a timed model with a row in the published table",
        lambda table, _: chart_data.trade_off(table.rows),
        ratio_charts.trade_off,
    ),
    "activation": Definition(
        "Activation rate by layer",
        "a model with configurators",
        lambda table, _: chart_data.activation_by_layer(table.rows),
        line_charts.activation_by_layer,
    ),
    "activation-time": Definition(
        "Step time over activation rate",
        "a model that was timed at two activation rates or more (--activation 0.1,0.3,1.0)",
        lambda table, _: chart_data.activation_sweep(table.rows),
        line_charts.activation_sweep,
        lambda table, _: chart_data.lines_over_rates(table.rows),
    ),
    "rounds": Definition(
        "Every timed run, in the order made",
        "a timed run",
        lambda _, runs: chart_data.rounds(runs),
        line_charts.rounds,
        lambda table, runs: chart_data.lines_of_rounds(table.rows, runs),
    ),
}
