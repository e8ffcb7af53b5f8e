"""What there is to measure, as rows that print as text or JSON."""

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from bench import workloads
from bench.errors import UsageError
from bench.suites import collection
from bench.suites import reading as suites
from implementations import registry

Row = Mapping[str, Any]


def rows(what: str) -> list[Row]:
    """Rows of `suites`, `implementations` or `workloads`, each with a `name`. Raises UsageError."""
    kinds = {"suites": _suites, "implementations": _implementations, "workloads": _workloads}
    if what not in kinds:
        raise UsageError(f"list {what}: choose {', '.join(kinds)}")
    return kinds[what]()


def problems(what: str) -> list[str]:
    """What is wrong with names that are listed."""
    return list(registry.contested().values()) if what == "implementations" else []


def as_text(found: list[Row]) -> str:
    """A plain table."""
    return tabulate(
        [[_cell(value) for value in row.values()] for row in found],
        list(found[0]) if found else (),
        "simple",
        disable_numparse=True,
    )


def _suites() -> list[Row]:
    sources = suites.sources()
    loaded = [suites.load(source) for source in sources if not source.is_collection]
    return [
        {
            "name": suite.name,
            "workload": suite.workload,
            "lengths": list(suite.lengths),
            "models": len(suite.implementations),
            "description": suite.description,
        }
        for suite in loaded
    ] + [_collection(found) for source in sources if (found := collection.load(source))]


def _collection(found: collection.Collection) -> Row:
    loaded = [suites.load(part) for part in found.suites]
    return {
        "name": found.name,
        "workload": ", ".join(suite.workload for suite in loaded),
        "lengths": sorted({length for suite in loaded for length in suite.lengths}),
        "models": len({model for suite in loaded for model in suite.implementations}),
        "description": found.description,
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
