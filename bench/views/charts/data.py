"""Data of charts, as plain rows: a view on table rows and records, without any plotting library."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.records.reading import Results
from bench.views.tables.naming import BATCH, LENGTH, RATE, SETTINGS, Setting, names_of
from bench.views.tables.row import Row
from bench.views.tables.rows import rows_of
from bench.views.tables.titles import own_title

Point = dict[str, Any]

BATCH_AT_LENGTH = replace(BATCH, among=lambda row: row.length)
"""A line over lengths may have a batch of its own at each, as if the tokens per step are constant."""
SERIES = [
    RATE,
    *(BATCH_AT_LENGTH if setting is BATCH else setting for setting in SETTINGS if setting is not LENGTH),
]
"""Settings that tell lines over lengths apart."""
OVER_BATCHES = [RATE, *(setting for setting in SETTINGS if setting is not BATCH)]
"""Settings that tell lines over batches apart."""
FILE = Setting("File", lambda row: row.run, among=lambda row: row.cell)


def series_names(rows: Sequence[Row]) -> list[str]:
    """Name of each row's line in a chart over lengths: its title, and what tells it from others."""
    return names_of(rows, SERIES)


def lines_of(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Model's title and line's name of each row."""
    return [(own_title(row.model), name) for row, name in zip(rows, series_names(rows), strict=True)]


def lines_over_rates(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The same for a line over activation rates."""
    return [(own_title(row.model), name) for row, name in zip(rows, names_of(rows, SETTINGS), strict=True)]


def lines_over_batches(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The same for a line over batches."""
    names = names_of(rows, OVER_BATCHES)
    return [(own_title(row.model), name) for row, name in zip(rows, names, strict=True)]


def lines_of_rounds(rows: Sequence[Row], runs: Sequence[Results]) -> list[tuple[str, str]]:
    """The same if every run is drawn, in the order of the table."""
    order = {row.model: number for number, row in reversed([*enumerate(rows)])}
    found, names = _cases_with_names(runs)
    lines = sorted((order.get(row.model, len(order)), number) for number, (_, row) in enumerate(found))
    return [(own_title(found[number][1].model), names[number]) for _, number in lines]


def ratios(rows: Sequence[Row]) -> list[Point]:
    """Speed and memory ratio of every row that was timed, at its length."""
    return [
        {
            "model": name,
            "length": row.length,
            "speed": row.speed_ratio,
            "low": row.speed_low,
            "high": row.speed_high,
            "memory": row.memory_ratio,
        }
        for row, name in zip(rows, series_names(rows), strict=True)
        if row.speed_ratio is not None
    ]


def growth(rows: Sequence[Row]) -> list[Point]:
    """Seconds and bytes per sequence by length, for each model with two lengths or more.

    `label` tells the growth exponent: the slope of the straight line through the points, log on log.
    """
    names = series_names(rows)
    points = []
    for quantity, value in (("Step time (s)", _seconds), ("Peak memory (MiB)", _mebibytes)):
        lines: dict[str, dict[int, float]] = defaultdict(dict)
        for row, name in zip(rows, names, strict=True):
            figure = value(row)
            if figure is not None:
                lines[name][row.length] = figure / row.batch
        for model, line in lines.items():
            if len(line) > 1:
                exponent = growth_exponent(list(line), list(line.values()))
                longest = max(line)
                points += [
                    {
                        "model": model,
                        "length": length,
                        "quantity": quantity,
                        "value": figure,
                        "exponent": exponent,
                        "label": f"{model}  L^{exponent:.2f}" if length == longest else None,
                    }
                    for length, figure in sorted(line.items())
                ]
    return points


def throughput(rows: Sequence[Row]) -> list[Point]:
    """Tokens per second by length, for each model with two lengths or more; `label` tells the batch there."""
    lines: dict[str, list[Row]] = defaultdict(list)
    for row, name in zip(rows, series_names(rows), strict=True):
        if row.tokens_per_second is not None:
            lines[name].append(row)
    return [
        {
            "model": name,
            "length": row.length,
            "batch": row.batch,
            "value": row.tokens_per_second,
            "label": f"× {row.batch}",
        }
        for name, line in lines.items()
        if len(line) > 1
        for row in line
    ]


def over_batches(rows: Sequence[Row]) -> list[Point]:
    """Tokens per second and peak memory by batch, for each model with two batches or more."""
    points = []
    names = names_of(rows, OVER_BATCHES)
    for quantity, value in (("Tokens/s", _tokens), ("Peak memory (MiB)", _mebibytes)):
        lines: dict[str, dict[int, float]] = defaultdict(dict)
        for row, name in zip(rows, names, strict=True):
            if (figure := value(row)) is not None:
                lines[name][row.batch] = figure
        points += [
            {"model": model, "batch": batch, "quantity": quantity, "value": figure}
            for model, line in lines.items()
            if len(line) > 1
            for batch, figure in sorted(line.items())
        ]
    return points


def growth_exponent(lengths: Sequence[int], values: Sequence[float]) -> float:
    """The least-squares slope of log values over log lengths: 1 grows linearly, 2 quadratically."""
    return float(np.polyfit(np.log(lengths), np.log(values), 1)[0])


def _seconds(row: Row) -> float | None:
    return row.step_seconds


def _tokens(row: Row) -> float | None:
    return row.tokens_per_second


def _mebibytes(row: Row) -> float | None:
    return None if row.peak_memory_bytes is None or row.status != "ok" else row.peak_memory_bytes / (1 << 20)


def trade_off(rows: Sequence[Row]) -> list[Point]:
    """Published average accuracy, measured speed and memory of rows with all three, at the longest length."""
    longest = max((row.length for row in rows if row.published_accuracy and _is_whole(row)), default=0)
    return [
        {
            "model": name,
            "length": row.length,
            "accuracy": row.published_accuracy["average"],
            "speed": row.speed_ratio,
            "low": row.speed_low,
            "high": row.speed_high,
            "memory": row.memory_ratio,
        }
        for row, name in zip(rows, series_names(rows), strict=True)
        if _is_whole(row) and row.published_accuracy and row.length == longest
    ]


def _is_whole(row: Row) -> bool:
    return row.speed_ratio is not None and row.memory_ratio is not None


def activation_by_layer(rows: Sequence[Row]) -> list[Point]:
    """Activation rate of each layer, by model, workload and length."""
    return [
        {
            "model": name,
            "task": f"{row.workload}, length {row.length}",
            "layer": layer,
            "rate": rate,
        }
        for row, name in zip(rows, series_names(rows), strict=True)
        for layer, rate in enumerate(row.activation_by_layer or [], 1)
    ]


def activation_sweep(rows: Sequence[Row]) -> list[Point]:
    """Step time by measured activation rate, for each model that was timed at two rates or more."""
    lines: dict[str, list[Row]] = defaultdict(list)
    for row, name in zip(rows, names_of(rows, SETTINGS), strict=True):
        if row.activation_rate is not None and row.step_seconds is not None:
            lines[name].append(row)
    return [
        {
            "model": name,
            "rate": row.activation_rate,
            "milliseconds": (row.step_seconds or 0) * 1e3,
        }
        for name, line in lines.items()
        if len(line) > 1
        for row in line
    ]


def rounds(runs: Sequence[Results]) -> list[Point]:
    """Every timed run in the order that it was made, over the median of its case: drift and throttling."""
    points: list[Point] = []
    names = _case_names(runs)
    for number, run in enumerate(runs):
        times = defaultdict(list)
        for sample in run.samples:
            times[sample.case_id].append(sample.step_seconds)
        medians = {case_id: statistics.median(values) for case_id, values in times.items()}
        for sample in run.samples:
            points.append(
                {
                    "model": names.get((number, sample.case_id), sample.case_id),
                    "case": sample.case_id,
                    "run": run.path,
                    "number": len(points) + 1,
                    "block": sample.block + 1,
                    "relative": round(sample.step_seconds / medians[sample.case_id], 4),
                    "disturbed": sample.disturbed_by or sample.throttled or "no",
                }
            )
    return points


def _case_names(runs: Sequence[Results]) -> dict[tuple[int, str], str]:
    """Names of all cases, by number of the run and case."""
    found, names = _cases_with_names(runs)
    return {(number, row.case_id): name for (number, row), name in zip(found, names, strict=True)}


def _cases_with_names(runs: Sequence[Results]) -> tuple[list[tuple[int, Row]], list[str]]:
    """Rows with the number of their run, and names; a case of two runs has the file's name beside it."""
    found = [
        (number, row) for number, run in enumerate(runs) for row in rows_of(run, run.header.suite.baseline)
    ]
    return found, names_of([row for _, row in found], [*SERIES, FILE])
