"""Columns of a table: which there are, what each shows of a row, and which of its values is best."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter

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
from bench.views.tables.grid import FAILED, MISSING, Align, Cell, Head, Rank
from bench.views.tables.naming import RATE, SETTINGS
from bench.views.tables.notes import Footnote, is_as_published
from bench.views.tables.rows import Row

Value = Callable[[Row], float | None]

LEFT_OUT_FIRST = (
    *("Published\nmem", "Published\nspeed", "real\ntokens/s", "Params", "tokens/s"),
    *(*TASKS.values(), "GPU\nbusy"),
    *("Activation", "State", "Peak\nmemory", "95% interval", "ms/step", "ms/token"),
)
"""Columns that a narrow terminal goes without, the least important first."""


@dataclass(frozen=True)
class Column:
    """A header and what a row shows below it.

    `timed` columns show an X for a model that failed. `best` says whether the largest or the smallest
    `value` is the best; a column without it is not ranked, only sorted.
    """

    header: str
    show: Callable[[Row], str | None]
    timed: bool = False
    align: Align = "right"
    value: Value | None = None
    best: Callable[[Sequence[float]], float] | None = None
    help: str = ""
    """Description of the column, in a sentence or two."""
    published: bool = False
    """Whether its figures are a paper's, not measured here."""
    fields: Sequence[str] = ()
    """Names of its figures in CSV and JSON."""
    on_demand: bool = False
    """Whether it is shown only if it is named (`--columns`)."""
    tells: bool = False
    """Whether rows can't be told apart without it."""

    @property
    def head(self) -> Head:
        name = self.header.split("\n(×")[0]
        drop = LEFT_OUT_FIRST.index(name) if name in LEFT_OUT_FIRST else -1
        return Head(
            self.header,
            self.align,
            drop=len(LEFT_OUT_FIRST) - drop if drop >= 0 else 0,
            label=self.tells,
            most_first=self.best is max,
            fields=self.fields,
            on_demand=self.on_demand,
        )

    def rank(self, row: Row, panel: Sequence[Row]) -> Rank | None:
        """Whether a row's value is the best or second best of its panel's; values that print equal tie."""
        if self.value is None or self.best is None or self.value(row) is None:
            return None
        by_text = {self.show(other): self.value(other) for other in panel}
        values = [value for value in by_text.values() if value is not None]
        if len(values) < 2:
            return None
        first = self.best(values)
        second = self.best([value for value in values if value != first])
        mine = by_text[self.show(row)]
        return "best" if mine == first else "second" if mine == second else None


def cells_of(
    rows: Sequence[Row], footnotes: Mapping[int, Footnote], columns: Sequence[Column]
) -> Iterator[list[Cell]]:
    """The cells of each row. footnotes: by number of the row."""
    for number, row in enumerate(rows):
        panel = [other for other in rows if other.panel == row.panel]
        footnote = footnotes.get(number)
        letter = footnote.letter if footnote else None
        yield [_cell(column, row, panel, letter) for column in columns]


def _cell(column: Column, row: Row, panel: Sequence[Row], letter: str | None) -> Cell:
    name = row.model if column.fields[:1] == ("model",) else None
    if column.timed and letter is not None:
        return Cell(FAILED, footnote=letter)
    text = column.show(row)
    value = None if column.value is None else column.value(row)
    return Cell(MISSING) if text is None else Cell(text, column.rank(row, panel), value=value, name=name)


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
        _ranked(f"Speed\n(× {baseline})", ratio, "speed_ratio", max, about.SPEED.format(baseline)),
        _interval(digits),
        _ranked(f"Mem\n(× {baseline})", ratio, "memory_ratio", min, about.MEMORY.format(baseline)),
    ]
    if timed and any(map(is_as_published, rows)):
        columns += [
            _published("Published\nspeed", ratio, "published_speed", max),
            _published("Published\nmem", ratio, "published_memory", min),
        ]
    rates_tell = replace(RATE, among=lambda row: row.model).tells(rows)
    columns += [*_times({row.phase for row in rows}, digits), *_figures(digits, rates_tell)]
    if any(row.gpu_busy is not None for row in rows):
        columns.append(
            _figure("GPU\nbusy", partial(_share, digits=digits), "gpu_busy", about.BUSY, timed=True)
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
    columns = [*_on_demand(None), *(_COMPILED if "compile" in suite.modes else ())]
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


def _figure(
    header: str, write: Callable[[float], str], field: str, words: str, timed: bool = False
) -> Column:
    """A column of one field of rows, which is not ranked."""
    value: Value = attrgetter(field)

    def show(row: Row) -> str | None:
        found = value(row)
        return None if found is None else write(found)

    return Column(header, show, timed, value=value, help=words, fields=(field,))


def _ranked(
    header: str,
    write: Callable[[float], str],
    field: str,
    best: Callable[[Sequence[float]], float],
    words: str,
) -> Column:
    return replace(_figure(header, write, field, words, timed=True), best=best)


def _published(
    header: str, write: Callable[[float], str], field: str, best: Callable[[Sequence[float]], float]
) -> Column:
    column = _ranked(header, write, field, best, about.PUBLISHED)
    return replace(column, timed=False, published=True)


def _times(phases: Collection[str], digits: int | None) -> list[Column]:
    """Time of a step, or of a token; if tokens are decoded, the state too."""
    header, words = ("ms/token", about.TOKEN_TIME) if phases == {"decode"} else ("ms/step", about.STEP_TIME)
    columns = [_ranked(header, partial(format_milliseconds, digits=digits), "step_seconds", min, words)]
    if "decode" in phases:
        columns.append(
            _ranked("State", partial(format_bytes, digits=digits), "state_bytes", min, about.STATE)
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
        _ranked("tokens/s", count, "tokens_per_second", max, about.TOKENS),
        _ranked("real\ntokens/s", count, "real_tokens_per_second", max, about.REAL_TOKENS),
        replace(
            _figure("Peak\nmemory", size, "peak_memory_bytes", about.PEAK),
            # A model that computes something else may show its memory, but wins nothing by it.
            value=lambda row: row.peak_memory_bytes if row.status == "ok" else None,
            best=min,
        ),
        _figure("Params", count, "parameters", about.PARAMETERS),
        replace(_figure("Activation", percent, "activation_rate", about.ACTIVATION), tells=rates_tell),
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
        _figure("Width", str, "width", about.WIDTH),
        _figure("TFLOP/s", teraflops, "flops_per_second", about.FLOPS, timed=True),
        replace(_figure("MFU", percent, "utilisation", about.UTILISATION, timed=True), show=utilisation),
    ]
    return [replace(column, on_demand=True) for column in columns]


def _share(share: float, digits: int | None) -> str:
    return f"{share:.0%}" if digits is None else format_percent(share, digits)


_COMPILED = (
    _figure("First\nstep", format_duration, "first_step_seconds", about.FIRST_STEP),
    _figure("Graph\nbreaks", str, "graph_breaks", about.BREAKS),
)
"""Columns on compiling a model."""
