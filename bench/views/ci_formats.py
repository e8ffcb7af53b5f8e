"""`bench export`: a result file in the formats that CI services read. A figure not measured is left out."""

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args
from xml.etree import ElementTree

from bench.errors import UsageError
from bench.records.reading import Results
from bench.records.solo import Status
from bench.stats.intervals import MIN_BLOCKS, ratio_interval
from bench.text.escape import escape_xml
from bench.views.figures import block_times
from bench.views.tables.row import Row
from bench.views.tables.rows import NOT_REACHED, rows_of

Format = Literal["github-action-benchmark", "bencher", "pytest-benchmark", "junit"]
FORMATS: tuple[Format, ...] = get_args(Format)

FAILURES: tuple[Status, ...] = ("wrong", "nan")
"""The model computed something else than it should; what else ends a case is an error around it."""

JUNIT_FIGURES = ("step_seconds", "speed_ratio", "speed_low", "speed_high", "peak_memory_bytes", "parameters")


def export(results: Results, form: str) -> str:
    """A run as text for a CI service. Raises UsageError for an unknown format."""
    writers: Mapping[str, Callable[[Results, list[Row]], str]] = {
        "github-action-benchmark": _github_action_benchmark,
        "bencher": _bencher,
        "pytest-benchmark": _pytest_benchmark,
        "junit": _junit,
    }
    if form not in writers:
        raise UsageError(f"--format {form}: choose {', '.join(FORMATS)}")
    return writers[form](results, rows_of(results, results.header.suite.baseline))


def _github_action_benchmark(results: Results, rows: list[Row]) -> str:
    """Its `customSmallerIsBetter`: a list of named values."""
    values: list[dict[str, Any]] = []
    for row in rows:
        name, extra = _name(results, row), f"{row.hardware}, torch {row.torch}"
        if row.step_seconds is not None:
            value = {"name": f"{name}: step", "unit": "ms", "value": row.step_seconds * 1e3, "extra": extra}
            values.append(value | _spread(block_times(results, row.case_id)))
        if row.status == "ok" and row.peak_memory_bytes is not None:
            unit = {"unit": "bytes", "value": row.peak_memory_bytes, "extra": extra}
            values.append({"name": f"{name}: {row.peak_memory_kind}", **unit})
    return _json(values)


def _spread(times: Sequence[float]) -> dict[str, str]:
    if len(times) < MIN_BLOCKS:
        return {}
    return {"range": f"± {statistics.stdev(times) * 1e3:.4g}"}


def _bencher(results: Results, rows: list[Row]) -> str:
    """Bencher Metric Format: values by benchmark and measure."""
    report: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        measures: dict[str, dict[str, float]] = {}
        if row.step_seconds is not None:
            # The built-in measures: nanoseconds, and operations a second.
            measures["latency"] = _bounded(row.step_seconds * 1e9, block_times(results, row.case_id), 1e9)
            measures["throughput"] = {"value": 1 / row.step_seconds}
        if row.status == "ok" and row.peak_memory_bytes is not None:
            measures["peak-memory-bytes"] = {"value": row.peak_memory_bytes}
        if measures:
            report[_name(results, row)] = measures
    return _json(report)


def _bounded(value: float, times: Sequence[float], scale: float) -> dict[str, float]:
    """A value with the 95% interval of its blocks, which may not hold it: a median is not a mean."""
    interval = ratio_interval([math.log(seconds) for seconds in times])
    if interval.low is None or interval.high is None:
        return {"value": value}
    low, high = interval.low * scale, interval.high * scale
    return {"value": value, "lower_value": min(low, value), "upper_value": max(high, value)}


def _pytest_benchmark(results: Results, rows: list[Row]) -> str:
    """As `pytest --benchmark-json` writes it; a round is a block's median step time."""
    environment = results.header.environment
    return _json(
        {
            "machine_info": {
                "node": environment.hardware,
                "processor": environment.processor,
                "machine": environment.platform,
                "python_version": environment.python,
                "python_implementation": "CPython",
                "cpu": {"brand_raw": environment.processor},
                "torch": environment.torch,
            },
            "commit_info": {"id": environment.commit, "dirty": environment.dirty},
            "benchmarks": [
                _benchmark(results, row, times)
                for row in rows
                if row.step_seconds is not None and (times := block_times(results, row.case_id))
            ],
            "datetime": results.header.created,
            "version": "5.0.0",
        }
    )


def _benchmark(results: Results, row: Row, times: Sequence[float]) -> dict[str, Any]:
    name = _name(results, row)
    return {
        "group": f"{row.workload}-{row.length}",
        "name": name,
        "fullname": name,
        "params": {"model": row.model, "length": row.length},
        "param": f"{row.model}-{row.length}",
        "extra_info": {"peak_memory_bytes": row.peak_memory_bytes, "parameters": row.parameters},
        "options": {"timer": "perf_counter", "warmup": True},
        "stats": _stats(times),
    }


def _stats(times: Sequence[float]) -> dict[str, Any]:
    """The figures that pytest-benchmark derives from its rounds."""
    mean = statistics.fmean(times)
    deviation = statistics.stdev(times) if len(times) > 1 else 0.0
    if len(times) > 1:
        q1, _, q3 = statistics.quantiles(times, n=4, method="inclusive")
    else:
        q1 = q3 = times[0]
    fence = 1.5 * (q3 - q1)
    inside = [seconds for seconds in times if q1 - fence <= seconds <= q3 + fence]
    beyond = sum(abs(seconds - mean) > deviation for seconds in times)
    return {
        "min": min(times),
        "max": max(times),
        "mean": mean,
        "stddev": deviation,
        "rounds": len(times),
        "median": statistics.median(times),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": len(times) - len(inside),
        "stddev_outliers": beyond,
        "outliers": f"{beyond};{len(times) - len(inside)}",
        "ld15iqr": min(inside),
        "hd15iqr": max(inside),
        "ops": 1 / mean,
        "total": sum(times),
        "data": list(times),
        "iterations": 1,
    }


def _junit(results: Results, rows: list[Row]) -> str:
    """JUnit XML: a test for every case, its time the step's; what a case failed of is its message."""
    failed = [row for row in rows if row.status in FAILURES]
    skipped = [row for row in rows if _is_skipped(row)]
    broken = [row for row in rows if row.status != "ok" and row not in failed and row not in skipped]
    counts = {"tests": len(rows), "failures": len(failed), "errors": len(broken), "skipped": len(skipped)}
    attributes = {name: str(count) for name, count in counts.items()}
    seconds = str(results.end.seconds if results.end else 0)
    root = ElementTree.Element("testsuites", attributes | {"time": seconds})
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {
            "name": escape_xml(results.header.suite.name),
            "timestamp": escape_xml(results.header.created.partition("+")[0]),
            "time": seconds,
            **attributes,
        },
    )
    for row in rows:
        _test_case(suite, results, row)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def _is_skipped(row: Row) -> bool:
    return row.status == "unsupported" or row.reason == NOT_REACHED


def _test_case(suite: ElementTree.Element, results: Results, row: Row) -> None:
    name = {"name": escape_xml(row.case_id), "classname": escape_xml(f"bench.{results.header.suite.name}")}
    test = ElementTree.SubElement(suite, "testcase", name | {"time": str(row.step_seconds or 0)})
    figures = ElementTree.SubElement(test, "properties")
    for figure in JUNIT_FIGURES:
        value = getattr(row, figure)
        if value is not None:
            ElementTree.SubElement(figures, "property", {"name": figure, "value": str(value)})
    if len(figures) == 0:
        test.remove(figures)
    message = {"message": escape_xml(row.reason or row.status)}
    if _is_skipped(row):
        ElementTree.SubElement(test, "skipped", message)
    elif row.status != "ok":
        kind = "failure" if row.status in FAILURES else "error"
        ElementTree.SubElement(test, kind, message | {"type": row.status})


def _name(results: Results, row: Row) -> str:
    return f"{results.header.suite.name}/{row.case_id}"


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
