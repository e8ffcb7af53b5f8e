"""Notes below a table on models, workloads and metrics that come from elsewhere."""

import re
from collections.abc import Iterator

from bench.records.reading import Results
from bench.records.run import PlugIn
from bench.records.solo import Solo
from bench.suites.case import Case
from bench.views.tables.titles import title_of
from implementations import registry
from implementations.errors import RegistryError

SLOWER = re.compile(r"fall(?:s|ing)? ?back|fast path is not available|much slower", re.IGNORECASE)
"""Words by which libraries say that they compute by a slower form than they could."""
SHOWN = 200
"""Characters of a library's line at most."""


def plugin_notes(run: Results) -> list[str]:
    """Notes on the kernels that computed, a model's remarks, and what stands in the way of a comparison."""
    return [
        *(f"{', '.join(names)}: {words}" for words, names in _said_of(run).items()),
        *_own_sizes(run),
        *_other_batches(run),
        *_failed_metrics(run),
    ]


def plugin_footer(run: Results) -> list[str]:
    """Whose code it was, a line per package and commit."""
    names: dict[str, list[str]] = {}
    for name, plug_in in run.header.plug_ins.items():
        names.setdefault(words(plug_in), []).append(name)
    return [f"code of {', '.join(found)}: {whose}" for whose, found in names.items()]


def words(plug_in: PlugIn) -> str:
    """A plug-in's package, version and commit."""
    package = " ".join(filter(None, (plug_in.package, plug_in.version))) or "of no installed package"
    if plug_in.commit is None:
        return package
    return f"{package}, commit {plug_in.commit[:12]}{' with changes' if plug_in.dirty else ''}"


def _said_of(run: Results) -> dict[str, list[str]]:
    """Names of rows by what is said of them."""
    found: dict[str, list[str]] = {}
    for solo in run.solos.values():
        for line in _lines_of(solo):
            found.setdefault(line, []).append(_name(solo.case))
    return found


def _lines_of(solo: Solo) -> Iterator[str]:
    yield from solo.remarks
    if solo.compiled is not None and solo.compiled.given_up:
        yield (
            f"runs op by op in part: torch gave up compiling {solo.compiled.given_up} of its functions, "
            "after as many sizes or values as it allows"
        )
    if solo.computed_by is not None:
        yield f"computed by {solo.computed_by}"
        return
    printed = (solo.printed or "").splitlines()
    line = next((line.strip() for line in printed if SLOWER.search(line)), None)
    if line is not None and solo.status == "ok":
        yield f"said of itself: {line[:SHOWN]}"


def _own_sizes(run: Results) -> list[str]:
    """Models of the user's, which no mode gives sizes but equal parameters."""
    suite = run.header.suite
    if suite.hyperparameters not in registry.SIZES:
        return []
    names = ", ".join(title_of(name) for name in suite.implementations if _has_own_sizes(name))
    return [f"{names}: sizes of its own, not {suite.hyperparameters} ones"] if names else []


def _has_own_sizes(name: str) -> bool:
    try:
        found = registry.find(name)
    except RegistryError:
        return False
    return found.plugged_in and not found.sized


def _other_batches(run: Results) -> list[str]:
    """Cells whose models were not given the same batch."""
    digests: dict[Case, set[str]] = {}
    for solo in run.solos.values():
        if solo.batch_digest is not None:
            digests.setdefault(solo.case.cell, set()).add(solo.batch_digest)
    lengths = dict.fromkeys(str(cell.length) for cell, found in digests.items() if len(found) > 1)
    if not lengths:
        return []
    return [
        f"models did not have the same batch at length {', '.join(lengths)}: the workload "
        f"{run.header.suite.workload} gives others for the same seed, and ratios compare unlike data"
    ]


def _failed_metrics(run: Results) -> list[str]:
    """Metrics of the user's that gave no figure, by reason."""
    failed: dict[tuple[str, str], list[str]] = {}
    for solo in run.solos.values():
        for figure in solo.metrics:
            if figure.failure is not None:
                failed.setdefault((figure.metric, figure.failure), []).append(_name(solo.case))
    return [
        f"metric {metric} has no figure of {', '.join(names)}: {reason}"
        for (metric, reason), names in failed.items()
    ]


def _name(case: Case) -> str:
    mode = "" if case.mode == "eager" else f" ({case.mode})"
    return f"{title_of(case.implementation)}{mode} at {case.length}"
