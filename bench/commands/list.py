"""`bench list`: what there is to measure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.commands.console import complain
from bench.commands.tables import Shown, prints_table
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.suites.files import SuiteFile

app = typer.Typer()

Row = Mapping[str, Any]

FIELDS: Mapping[str, Sequence[str]] = {
    "suites": ("name", "workload", "lengths", "models", "description"),
    "implementations": ("name", "title", "complexity", "reference", "tasks", "citation"),
    "workloads": ("name", "description"),
    "metrics": ("name", "path"),
}
"""Columns of each list, which has them also if nothing is installed."""


@app.command("list")
@prints_table()
def list_(
    what: Annotated[str, typer.Argument(metavar="[suites|implementations|workloads|metrics]")] = "suites",
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="Suites of your own, to list instead.")
    ] = None,
    *,
    shown: Shown,
) -> None:
    """List suites, implementations, workloads or metrics."""
    from bench import workloads
    from bench.suites import metrics
    from bench.views.listing import Listing
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
    shown.show(Listing.of(list(kinds[what](files or ())), shown.rows, FIELDS[what]))
    contested = {
        "implementations": registry.contested,
        "workloads": workloads.DOOR.contested,
        "metrics": metrics.DOOR.contested,
    }
    for problem in contested[what]().values() if what in contested else ():
        complain(problem)


def _suites(files: Sequence[str]) -> Iterator[Row]:
    """Suites, then collections, as they are run. One of the package's that can't be had is left out, said."""
    from bench.suites.files import suite_file, suite_files

    read = [suite_file(file) for file in files] if files else suite_files()
    for each in sorted(read, key=lambda each: each.is_collection):
        try:
            yield _collection(each) if each.is_collection else _suite(each)
        except UsageError as error:
            if files:
                raise
            complain(str(error))


def _suite(file: "SuiteFile") -> Row:
    """A suite with every field as it is run with, whatever it extends."""
    from msgspec import to_builtins

    from bench.suites.reading import load

    suite = load(file)
    return {
        "name": suite.name,
        "workload": suite.workload,
        "lengths": list(suite.lengths),
        "models": len(suite.implementations),
        "description": suite.description,
        "resolved": to_builtins(suite),
    }


def _collection(file: "SuiteFile") -> Row:
    from bench.suites import collection
    from bench.suites.reading import load

    found = collection.load(file)
    assert found is not None, "a file of suites is a collection"
    loaded = [load(part) for part in found.files]
    return {
        "name": found.name,
        "workload": ", ".join(suite.workload for suite in loaded),
        "lengths": sorted({length for suite in loaded for length in suite.lengths}),
        "models": len({model for suite in loaded for model in suite.implementations}),
        "description": found.description,
        "resolved": found.resolved,
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
