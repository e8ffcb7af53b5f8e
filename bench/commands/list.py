"""What there is to measure, as rows that print as text or JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from tabulate import tabulate

from bench import workloads
from bench.errors import UsageError
from bench.suites import collection
from bench.suites import reading as suites
from bench.suites.sources import source, sources
from implementations import registry

Row = Mapping[str, Any]


def rows(what: str, files: Sequence[str] = ()) -> list[Row]:
    """Rows of `suites`, `implementations` or `workloads`, each with a `name`. Raises UsageError.

    files: suites to list in place of those of the package.
    """
    kinds = {"implementations": _implementations, "workloads": _workloads}
    if what == "suites":
        return _suites(files)
    if what not in kinds:
        raise UsageError(f"list {what}: choose suites, {', '.join(kinds)}")
    if files:
        raise UsageError(f"list {what} {files[0]}: files go with suites only")
    return kinds[what]()


def problems(what: str) -> list[str]:
    """What is wrong with names that are listed."""
    return list(registry.contested().values()) if what == "implementations" else []


def as_text(found: list[Row]) -> str:
    """A plain table, without what has parts of its own."""
    lines = [{key: value for key, value in row.items() if not isinstance(value, dict)} for row in found]
    return tabulate(
        [[_cell(value) for value in line.values()] for line in lines],
        list(lines[0]) if lines else (),
        "simple",
        disable_numparse=True,
    )


def _suites(files: Sequence[str]) -> list[Row]:
    """Suites, then collections; a suite with every field as it is run with, whatever it extends."""
    read = [source(file) for file in files] if files else sources()
    loaded = [suites.load(each) for each in read if not each.is_collection]
    return [
        {
            "name": suite.name,
            "workload": suite.workload,
            "lengths": list(suite.lengths),
            "models": len(suite.implementations),
            "description": suite.description,
            "resolved": msgspec.to_builtins(suite),
        }
        for suite in loaded
    ] + [_collection(found) for each in read if (found := collection.load(each))]


def _collection(found: collection.Collection) -> Row:
    loaded = [suites.load(part) for part in found.suites]
    return {
        "name": found.name,
        "workload": ", ".join(suite.workload for suite in loaded),
        "lengths": sorted({length for suite in loaded for length in suite.lengths}),
        "models": len({model for suite in loaded for model in suite.implementations}),
        "description": found.description,
        "resolved": msgspec.to_builtins(found),
    }


def _implementations() -> list[Row]:
    return [
        {
            "name": item.name,
            "title": item.title,
            "complexity": item.complexity,
            "reference": item.reference,
            "tasks": list(item.published),
            "citation": item.citation,
        }
        for item in registry.catalogue().values()
    ]


def _workloads() -> list[Row]:
    return [
        {"name": name, "description": workload.description}
        for name in workloads.WORKLOADS
        for workload in [workloads.load(name)]
    ]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
