"""Columns of a table: which there are, and what each shows of a row."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from bench.records.environment import DeviceKind
from bench.records.published import TASKS
from bench.suites.suite import Suite
from bench.text.units import (
    format_bytes,
    format_count,
    format_duration,
    format_interval,
    format_milliseconds,
    format_percent,
    format_ratio,
    significant,
)
from bench.views.tables import about
from bench.views.tables.column import Column, figure_column, published_column, ranked_column
from bench.views.tables.grid import FAILED
from bench.views.tables.naming import RATE, SETTINGS
from bench.views.tables.row import Row


def columns_of(
    rows: Sequence[Row],
    baseline: str,
    *,
    published: bool = False,
    timed: bool = True,
    promised: Collection[str] = (),
    digits: int | None = None,
) -> list[Column]:
    """Columns of a table of these rows: settings only if rows differ in them.

    baseline: its title. published: with the accuracies that papers print. timed: whether there are times;
    without them, only columns that say something of some row, and those whose fields are promised.
    digits: significant ones of every figure.
    """
    ratio = partial(format_ratio, digits=digits)
    words = "Name of the implementation; a letter beside an X leads to why it has no figures."
    model = Column(
        "Model", lambda row: row.title, align="left", help=words, fields=("model", "title"), tells=True
    )
    columns = [model, *_settings(rows)]
    if published:
        columns += [_accuracy(task, header, digits) for task, header in TASKS.items()]
    columns += [
        ranked_column(f"Speed\n(× {baseline})", ratio, "speed_ratio", max, about.SPEED.format(baseline)),
        _interval(digits),
        ranked_column(f"Mem\n(× {baseline})", ratio, "memory_ratio", min, about.MEMORY.format(baseline)),
    ]
    if timed and any(row.is_as_published for row in rows):
        columns += [
            published_column("Published\nspeed", ratio, "published_speed", max),
            published_column("Published\nmem", ratio, "published_memory", min),
        ]
    rates_tell = replace(RATE, among=lambda row: row.model).tells(rows)
    columns += [*_times({row.phase for row in rows}, digits), *_figures(digits, rates_tell)]
    if any(row.gpu_busy is not None for row in rows):
        columns.append(
            figure_column("GPU\nbusy", partial(_share, digits=digits), "gpu_busy", about.BUSY, timed=True)
        )
    columns += metric_columns(rows, digits)
    if any(row.first_step_seconds is not None for row in rows):
        columns += _COMPILED
    columns += [column for column in _on_demand(digits) if any(column.show(row) is not None for row in rows)]
    if timed:
        return columns
    return [
        column
        for column in columns
        if not set(column.fields).isdisjoint(promised) or any(column.show(row) is not None for row in rows)
    ]


def later_columns(suite: Suite, kind: DeviceKind) -> list[str]:
    """Headers of columns that a run's table may get from what is measured."""
    sized = suite.hyperparameters.startswith("params:")
    on_demand = (column for column in _on_demand(None) if sized or column.fields != ("width",))
    columns = [*on_demand, *(_COMPILED if "compile" in suite.modes else ())]
    return [*(column.head.one_line for column in columns), *(["GPU busy"] if kind == "cuda" else [])]


def metric_columns(rows: Sequence[Row], digits: int | None = None) -> list[Column]:
    """A column for each figure of the user's metrics, with the metric's name if two give the same figure."""
    found = {
        (figure.name, figure.unit, figure.metric): None
        for row in rows
        for figure in row.metrics
        if figure.value is not None
    }
    names = [key[:2] for key in found]

    def column(name: str, unit: str, metric: str) -> Column:
        both = f"{name} of {metric}" if names.count((name, unit)) > 1 else name
        # A record may hold any text; a header has two lines.
        words, unit_words = " ".join(both.split()), " ".join(unit.split())

        def value(row: Row) -> float | None:
            mine = (one for one in row.metrics if (one.name, one.unit, one.metric) == (name, unit, metric))
            return next((one.value for one in mine), None)

        def show(row: Row) -> str | None:
            number = value(row)
            if number is None:
                return None
            return f"{number:.4g}" if digits is None else significant(number, digits)

        header = f"{words}\n[{unit_words}]" if unit_words else words
        help_ = f"{name} as the metric {metric} of your own found it."
        return Column(header, show, value=value, help=help_, fields=(header.replace("\n", " "),))

    return [column(*key) for key in found]


def _settings(rows: Sequence[Row]) -> list[Column]:
    """A column for each setting in which rows differ, and on demand for the others."""
    return [
        Column(
            one.header,
            one.show,
            align="right" if one.number else "left",
            value=one.number,
            help=one.help,
            fields=(one.field or one.header.lower(),),
            tells=(differs := one.tells(rows)),
            on_demand=not differs,
        )
        for one in SETTINGS
    ]


def _accuracy(task: str, header: str, digits: int | None) -> Column:
    def value(row: Row) -> float | None:
        return None if row.published_accuracy is None else row.published_accuracy[task]

    def show(row: Row) -> str | None:
        if row.published_accuracy is None:
            return None
        accuracy = row.published_accuracy[task]
        if accuracy is None:
            return FAILED
        return f"{accuracy:.2f}" if digits is None else significant(accuracy, digits)

    words = (
        f"Accuracy in % that papers print for {header}, not measured here; X: not learned or not reported."
    )
    if task == "average":
        words = "Average of the accuracies that papers print for the arena's tasks, in %; not measured here."
    return Column(header, show, value=value, best=max, help=words, published=True)


def _times(phases: Collection[str], digits: int | None) -> list[Column]:
    """Time of a step, or of a token; if tokens are decoded, the state too."""
    header, words = ("ms/token", about.TOKEN_TIME) if phases == {"decode"} else ("ms/step", about.STEP_TIME)
    columns = [ranked_column(header, partial(format_milliseconds, digits=digits), "step_seconds", min, words)]
    if "decode" in phases:
        columns.append(
            ranked_column("State", partial(format_bytes, digits=digits), "state_bytes", min, about.STATE)
        )
    return columns


def _interval(digits: int | None) -> Column:
    return Column(
        "95% interval",
        lambda row: format_interval(row.speed_low, row.speed_high, digits),
        timed=True,
        value=lambda row: row.speed_low,
        help=about.INTERVAL,
        fields=("speed_low", "speed_high"),
    )


def _figures(digits: int | None, rates_tell: bool) -> list[Column]:
    """Columns of every table beside ratios and times."""
    count = partial(format_count, digits=digits)
    size, percent = partial(format_bytes, digits=digits), partial(format_percent, digits=digits)
    return [
        ranked_column("tokens/s", count, "tokens_per_second", max, about.TOKENS),
        ranked_column("real\ntokens/s", count, "real_tokens_per_second", max, about.REAL_TOKENS),
        replace(
            figure_column("Peak\nmemory", size, "peak_memory_bytes", about.PEAK),
            # A model that computes something else may show its memory, but wins nothing by it.
            value=lambda row: row.peak_memory_bytes if row.status == "ok" else None,
            best=min,
        ),
        figure_column("Params", count, "parameters", about.PARAMETERS),
        replace(figure_column("Activation", percent, "activation_rate", about.ACTIVATION), tells=rates_tell),
    ]


def _on_demand(digits: int | None) -> list[Column]:
    """Columns of what a run measures only if it is asked for."""
    percent = partial(format_percent, digits=digits)

    def utilisation(row: Row) -> str | None:
        """More than all of it is marked, also if the notes are left out."""
        share = row.utilisation
        return None if share is None else f"{percent(share)}{'!' if share > 1 else ''}"

    def teraflops(value: float) -> str:
        return significant(value / 1e12, 3 if digits is None else digits)

    columns = [
        figure_column("Width", str, "width", about.WIDTH),
        figure_column("TFLOP/s", teraflops, "flops_per_second", about.FLOPS, timed=True),
        replace(
            figure_column("MFU", percent, "utilisation", about.UTILISATION, timed=True), show=utilisation
        ),
    ]
    return [replace(column, on_demand=True) for column in columns]


def _share(share: float, digits: int | None) -> str:
    return f"{share:.0%}" if digits is None else format_percent(share, digits)


_COMPILED = (
    figure_column("First\nstep", format_duration, "first_step_seconds", about.FIRST_STEP),
    figure_column("Graph\nbreaks", str, "graph_breaks", about.BREAKS),
)
"""Columns on compiling a model."""
