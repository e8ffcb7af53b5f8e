"""What charts show, as plain rows: a view on table rows and records, without any plotting library."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.records.profile import Ceilings, Profile, add
from bench.records.reading import Results
from bench.views.tables.rows import Row, title_of

Point = dict[str, Any]


def series_names(rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """A name for each line of a chart by (case without its length, machine): the title, and what differs."""
    settings = {_series(row): row for row in rows}
    parts: list[Callable[[Row], str]] = [
        lambda row: "" if row.activation_set is None else f"activation {row.activation_set:g}",
        lambda row: row.workload,
        lambda row: row.precision,
        lambda row: row.phase,
        lambda row: row.hardware if row.hardware != row.device else row.device,
        lambda row: f"{row.threads} threads",
    ]
    names = {}
    for key, row in settings.items():
        same = [other for other in settings.values() if other.title == row.title]
        words = [part(row) for part in parts if len({part(other) for other in same}) > 1]
        names[key] = ", ".join([row.title, *filter(None, words)])
    return names


def _series(row: Row) -> tuple[str, str]:
    setting = (row.model, row.workload, row.precision, row.phase, row.activation_set, row.hyperparameters)
    return (str(setting), f"{row.device}, {row.hardware}, {row.threads}, {row.torch}")


def ratios(rows: Sequence[Row]) -> list[Point]:
    """Speed and memory ratio of every row that was timed, at its length."""
    names = series_names(rows)
    return [
        {
            "model": names[_series(row)],
            "length": row.length,
            "speed": row.speed_ratio,
            "low": row.speed_low,
            "high": row.speed_high,
            "memory": row.memory_ratio,
        }
        for row in rows
        if row.speed_ratio is not None
    ]


def growth(rows: Sequence[Row]) -> list[Point]:
    """Seconds and bytes a sequence by length, for each model with two lengths or more.

    `label` tells the growth exponent: the slope of the straight line through the points, log on log.
    """
    names = series_names(rows)
    points = []
    for quantity, value in (("Step time (s)", _seconds), ("Peak memory (MiB)", _mebibytes)):
        lines: dict[str, dict[int, float]] = defaultdict(dict)
        for row in rows:
            figure = value(row)
            if figure is not None:
                lines[names[_series(row)]][row.length] = figure / row.batch
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


def growth_exponent(lengths: Sequence[int], values: Sequence[float]) -> float:
    """The least-squares slope of log values over log lengths: 1 grows linearly, 2 quadratically."""
    return float(np.polyfit(np.log(lengths), np.log(values), 1)[0])


def _seconds(row: Row) -> float | None:
    return row.step_seconds


def _mebibytes(row: Row) -> float | None:
    return None if row.peak_memory_bytes is None or row.status != "ok" else row.peak_memory_bytes / (1 << 20)


def trade_off(rows: Sequence[Row]) -> list[Point]:
    """Published average accuracy, measured speed and memory of rows with all three, at the longest length."""
    names = series_names(rows)
    whole = [row for row in rows if row.speed_ratio is not None and row.memory_ratio is not None]
    longest = max((row.length for row in whole if row.published_accuracy), default=0)
    return [
        {
            "model": names[_series(row)],
            "length": row.length,
            "accuracy": row.published_accuracy["average"],
            "speed": row.speed_ratio,
            "low": row.speed_low,
            "high": row.speed_high,
            "memory": row.memory_ratio,
        }
        for row in whole
        if row.published_accuracy and row.length == longest
    ]


def activation_by_layer(rows: Sequence[Row]) -> list[Point]:
    """Activation rate of each layer, by model, workload and length."""
    names = series_names(rows)
    return [
        {
            "model": names[_series(row)],
            "task": f"{row.workload}, length {row.length}",
            "layer": layer,
            "rate": rate,
        }
        for row in rows
        for layer, rate in enumerate(row.activation_by_layer or [], 1)
    ]


def activation_sweep(rows: Sequence[Row]) -> list[Point]:
    """Step time by measured activation rate, for each model that was timed at two rates or more."""
    lines: dict[tuple[str, int, tuple[object, ...]], list[Row]] = defaultdict(list)
    for row in rows:
        if row.activation_rate is not None and row.step_seconds is not None:
            lines[row.title, row.length, row.panel].append(row)
    several = len({length for _, length, _ in lines}) > 1
    return [
        {
            "model": f"{title} at {length}" if several else title,
            "rate": row.activation_rate,
            "milliseconds": (row.step_seconds or 0) * 1e3,
        }
        for (title, length, _), line in lines.items()
        if len(line) > 1
        for row in line
    ]


def rounds(runs: Sequence[Results]) -> list[Point]:
    """Every timed run in the order that it was made, over the median of its case: drift and throttling."""
    points: list[Point] = []
    for run in runs:
        times = defaultdict(list)
        for sample in run.samples:
            times[sample.case_id].append(sample.step_seconds)
        medians = {case_id: statistics.median(values) for case_id, values in times.items()}
        names = _case_names(run)
        for sample in run.samples:
            points.append(
                {
                    "model": names.get(sample.case_id, sample.case_id),
                    "case": sample.case_id,
                    "run": run.path,
                    "number": len(points) + 1,
                    "block": sample.block + 1,
                    "relative": round(sample.step_seconds / medians[sample.case_id], 4),
                    "throttled": sample.throttled or "no",
                }
            )
    return points


def _case_names(run: Results) -> dict[str, str]:
    """Titles of a run's cases, with the activation rate where a model has several."""
    cases = {case_id: solo.case for case_id, solo in run.solos.items()}
    rates = defaultdict(set)
    for case in cases.values():
        rates[case.implementation].add(case.activation)
    return {
        case_id: title_of(case.implementation)
        + (
            f", activation {case.activation:g}"
            if case.activation is not None and len(rates[case.implementation]) > 1
            else ""
        )
        for case_id, case in cases.items()
    }


def roofline(profiles: Sequence[Profile]) -> list[Point]:
    """Intensity and rate of every stage's own work that takes a hundredth of the step or more."""
    points = []
    for profile in profiles:
        whole = sum(stage.forward.seconds + stage.backward.seconds for stage in profile.stages)
        frames = {stage.path[:-1] for stage in profile.stages if stage.path}
        for stage in profile.stages:
            cost = add(stage.forward, stage.backward)
            if cost.flops and cost.bytes and cost.seconds >= whole / 100:
                points.append(
                    {
                        "model": title_of(profile.case.implementation),
                        "stage": _stage_name(stage.path, stage.path in frames),
                        "share": cost.seconds / whole,
                        "intensity": cost.flops / cost.bytes,
                        "rate": cost.flops / cost.seconds,
                    }
                )
    return points


def _stage_name(path: tuple[str, ...], has_stages: bool) -> str:
    """Of a stage's own work; `(other)` is what it does outside the stages within it."""
    return " ".join([*path[-1:], *(["(other)"] if has_stages else [])])


def roof(ceilings: Ceilings, intensities: Sequence[float]) -> list[Point]:
    """The most FLOP/s at each intensity: memory's slope, then the flat roof of arithmetic."""
    ridge = ceilings.flops_per_second / ceilings.bytes_per_second
    places = sorted({min(*intensities, ridge / 2), ridge, max(*intensities, ridge * 2)})
    most = ceilings.flops_per_second
    return [{"intensity": place, "rate": min(most, place * ceilings.bytes_per_second)} for place in places]
