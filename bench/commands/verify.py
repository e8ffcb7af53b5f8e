"""Verdicts of `bench verify` as text or JSON."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.commands.console import show
from bench.correctness.golden import systems
from bench.correctness.official import Verdict, verify
from implementations import registry


def print_verdicts(golden: Path, names: list[str] | None, as_json: bool) -> int:
    """Print the verdict on every case as it comes; returns how many failed."""
    verdicts = []
    for verdict in _verdicts(golden, names):
        verdicts.append(verdict)
        if not as_json:
            show(_line(verdict))
    if as_json:
        show(msgspec.json.format(msgspec.json.encode(verdicts)).decode())
    else:
        show(_summary(verdicts))
    return sum(verdict.counts_as_failure for verdict in verdicts)


def _verdicts(golden: Path, names: list[str] | None) -> Iterator[Verdict]:
    """Names are folders of vectors, or implementations: a fused one is held against its system's vectors."""
    if names is None:
        yield from verify(golden)
        return
    folders = systems(golden)
    for name in names:
        if name in folders:
            yield from verify(golden, [name])
        else:
            implementation = registry.find(name)
            yield from verify(golden, [implementation.golden], implementation.variant)


def _line(verdict: Verdict) -> str:
    error = "" if verdict.max_error is None else f"  {verdict.max_error:.1e} in {verdict.worst_tensor}"
    detail = f"  {verdict.detail}" if verdict.status != "passed" else ""
    return f"{verdict.status:<11} {verdict.system}/{verdict.case}{error}{detail}"


def _summary(verdicts: list[Verdict]) -> str:
    passed = sum(verdict.status == "passed" for verdict in verdicts)
    failed = sum(verdict.counts_as_failure for verdict in verdicts)
    optional = len(verdicts) - passed - failed
    return f"{passed} passed, {failed} failed, {optional} optional and unsupported"
