"""One page that holds a result: table, charts and every raw figure; it works without a network.

A view on records. All text that comes from a file (model names, reasons, command lines) is escaped by the
template, and data that scripts read stands in JSON blocks in which `<` is written as an escape.
"""

import base64
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.errors import UsageError
from bench.records.reading import Results
from bench.records.run import Sample
from bench.records.solo import Solo
from bench.text.escape import script_json
from bench.text.units import format_bytes, format_duration
from bench.version import __version__
from bench.views import pages, report_table
from bench.views.charts import charts
from bench.views.charts.looks import COLOURS, GREYS_ON_DARK, ON_DARK
from bench.views.tables import formats
from bench.views.tables.formats import RANKS
from bench.views.tables.table import baseline_of, build_table
from bench.views.tables.titles import title_of


def write(runs: Sequence[Results], path: Path, baseline: str | None = None) -> None:
    """Write the page. Raises UsageError if the runs do not fit together or the file can't be written."""
    text = page(runs, baseline)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None


def page(runs: Sequence[Results], baseline: str | None = None) -> str:
    """The whole page as HTML."""
    table = build_table(*runs, baseline=baseline, published=True)
    drawn = charts.available(runs, baseline)
    suites = list(dict.fromkeys(run.header.suite.name for run in runs))
    against = baseline_of(runs, baseline)
    sections = report_table.sections(table, against)
    return pages.render(
        "report.html.jinja",
        title=", ".join(suites),
        file_name=re.sub(r"[^\w.-]+", "-", "-".join(suites)).strip("-.") or "results",
        version=__version__,
        provenance=charts.provenance(runs),
        results=report_table.result(sections, against),
        sections=sections,
        columns=report_table.columns(table),
        words=report_table.WORDS,
        classes=report_table.classes(table),
        notes=report_table.notes(table),
        footer=[*table.footer, RANKS],
        csv=base64.b64encode(formats.render(table, "csv").encode()).decode(),
        figures={name: spec["title"]["text"] for name, spec in drawn.items()},
        charts=script_json(drawn),
        colours=script_json({**dict(zip(COLOURS, ON_DARK, strict=True)), **GREYS_ON_DARK}),
        samples=script_json({key: _rounds(samples) for key, samples in _by_case(runs).items()}),
        runs=[_run(number, run) for number, run in enumerate(runs)],
        style=pages.file("report.css"),
        script=pages.file("report.js"),
        library=pages.chart_library(),
    )


def _by_case(runs: Sequence[Results]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for number, run in enumerate(runs):
        for sample in run.samples:
            found.setdefault(f"{number}/{sample.case_id}", []).append(sample)
    return found


def _rounds(samples: Sequence[Sample]) -> list[list[Any]]:
    """Compact: a page has to hold many thousands of them."""
    return [
        [
            s.block + 1,
            s.group + 1,
            s.round + 1,
            s.visit,
            s.position + 1,
            s.steps,
            float(f"{s.seconds:.6g}"),
            s.activation,
            s.disturbed_by or s.throttled,
        ]
        for s in samples
    ]


def _run(number: int, run: Results) -> dict[str, Any]:
    header = run.header
    environment = msgspec.to_builtins(header.environment)
    return {
        "path": run.path,
        "command": shlex.join(header.command),
        "created": header.created,
        "data": header.data,
        "environment": {key: _shown(key, value) for key, value in environment.items() if value is not None},
        "suite": msgspec.json.format(msgspec.json.encode(header.suite), indent=2).decode(),
        "cases": [_case(f"{number}/{case_id}", run, solo) for case_id, solo in run.solos.items()],
        "notice": run.notice,
    }


def _shown(key: str, value: Any) -> str:
    if key == "memory_bytes":
        return format_bytes(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {content}" for name, content in value.items())
    return str(value)


def _case(key: str, run: Results, solo: Solo) -> dict[str, Any]:
    lost = run.lost.get(solo.case.id)
    facts = {
        "reason": solo.reason,
        "lost": f"{lost.status} in block {lost.block + 1}: {lost.reason}" if lost else None,
        "alone": None if solo.step_seconds is None else f"{format_duration(solo.step_seconds)} per step",
        "warm-up": ", ".join(map(format_duration, solo.warmup_seconds)),
        "stationary": None if solo.stationary is None else str(solo.stationary).lower(),
        "prepared in": format_duration(solo.prepare_seconds) if solo.prepare_seconds else None,
        "backend": solo.backend,
        "activation by layer": _rates(solo),
        "held against": _variant(solo),
    }
    memory = {
        figure.kind: f"unavailable: {figure.unavailable}"
        if figure.bytes is None
        else format_bytes(figure.bytes)
        for figure in solo.memory
    }
    return {
        "key": key,
        "title": title_of(solo.case.implementation),
        "id": solo.case.id,
        "status": lost.status if lost else solo.status,
        "facts": {name: fact for name, fact in facts.items() if fact} | memory,
    }


def _rates(solo: Solo) -> str | None:
    return ", ".join(f"{rate:.1%}" for rate in solo.activation.by_layer) if solo.activation else None


def _variant(solo: Solo) -> str | None:
    return f"{solo.variant.reference}: {solo.variant.words}" if solo.variant else None
