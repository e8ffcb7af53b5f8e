"""`bench list`: what there is to measure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from bench.commands.console import Json, as_json, complain, screen, show
from bench.errors import UsageError

app = typer.Typer()

Row = Mapping[str, Any]
LEFT_OUT_FIRST = {"citation": 3, "reference": 2, "tasks": 1}
"""Columns that a narrow terminal leaves out: the largest number first."""


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="[suites|implementations|workloads|metrics]")] = "suites",
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="Suites of your own, to list instead.")
    ] = None,
    json: Json = False,
) -> None:
    """What there is: suites, implementations, workloads or metrics."""
    from bench import workloads
    from bench.suites import metrics
    from implementations import registry

    kinds = {
        "suites": _suites,
        "implementations": _implementations,
        "workloads": _workloads,
        "metrics": _metrics,
    }
    if what not in kinds:
        raise UsageError(f"list {what}: choose {', '.join(kinds)}")
    if files and what != "suites":
        raise UsageError(f"list {what} {files[0]}: files go with suites only")
    rows = [*kinds[what](files or ())]
    show(as_json(rows) if json else _as_text(rows))
    contested = {
        "implementations": registry.contested,
        "workloads": workloads.DOOR.contested,
        "metrics": metrics.DOOR.contested,
    }
    for problem in contested[what]().values() if what in contested else ():
        complain(problem)


def _as_text(found: Sequence[Row]) -> str:
    """A plain table, without what has parts of its own; words wrap if the screen is narrow."""
    from bench.views.tables import terminal
    from bench.views.tables.grid import Cell, Grid, Head, Section

    lines = [{key: value for key, value in row.items() if not isinstance(value, dict)} for row in found]
    heads = [
        Head(key, "left", drop=LEFT_OUT_FIRST.get(key, 0), label=key == "name", words=key != "name")
        for key in (lines[0] if lines else ())
    ]
    rows = [[Cell(_cell(value)) for value in line.values()] for line in lines]
    return terminal.write([Grid(heads, [Section(None, rows)])], [], screen())


def _suites(files: Sequence[str]) -> Iterator[Row]:
    """Suites, then collections; a suite with every field as it is run with, whatever it extends."""
    from msgspec import to_builtins

    from bench.suites import collection
    from bench.suites.files import suite_file, suite_files
    from bench.suites.reading import load

    read = [suite_file(file) for file in files] if files else suite_files()
    for suite in (load(each) for each in read if not each.is_collection):
        yield {
            "name": suite.name,
            "workload": suite.workload,
            "lengths": list(suite.lengths),
            "models": len(suite.implementations),
            "description": suite.description,
            "resolved": to_builtins(suite),
        }
    for found in filter(None, map(collection.load, read)):
        loaded = [load(part) for part in found.suites]
        yield {
            "name": found.name,
            "workload": ", ".join(suite.workload for suite in loaded),
            "lengths": sorted({length for suite in loaded for length in suite.lengths}),
            "models": len({model for suite in loaded for model in suite.implementations}),
            "description": found.description,
            "resolved": to_builtins(found),
        }


def _implementations(_: Sequence[str]) -> Iterator[Row]:
    from implementations import registry

    for item in registry.catalogue().values():
        yield {
            "name": item.name,
            "title": item.title,
            "complexity": item.complexity,
            "reference": item.reference,
            "tasks": list(item.published),
            "citation": item.citation,
        }


def _workloads(_: Sequence[str]) -> Iterator[Row]:
    from bench import workloads

    for name in workloads.WORKLOADS:
        if name not in workloads.DOOR.contested():
            yield {"name": name, "description": workloads.load(name).description}
    for name in workloads.DOOR.names():
        try:
            yield {"name": name, "description": workloads.load(name).description}
        except UsageError as error:
            yield {"name": name, "description": f"cannot be had: {error}"}


def _metrics(_: Sequence[str]) -> Iterator[Row]:
    """Metrics of installed packages; none is imported."""
    from bench.suites.metrics import DOOR

    for name in DOOR.names():
        yield {"name": name, "path": DOOR.path_of(name)}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
