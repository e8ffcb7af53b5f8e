"""Notes below a table on what a GPU did beside computing what was asked of it."""

from collections import Counter
from collections.abc import Callable, Iterator

from bench.records.reading import Results
from bench.records.run import Sample
from bench.stats.ratios import step_seconds
from bench.suites.case import Case
from bench.views.tables.rows import busy_share, title_of

BUSY_ENOUGH = 0.8
"""Below this share of a step, a GPU waits for the host so much that a faster one would change little."""


def gpu_notes(run: Results) -> list[str]:
    """Notes of one run, on what it holds of a GPU."""
    return [*_throttled(run), *_aside(run), *_hosts(run), *_plain(run)]


def _throttled(run: Results) -> Iterator[str]:
    throttled = sum(sample.throttled is not None for sample in run.samples)
    if throttled:
        yield f"{throttled} of {len(run.samples)} runs were made while the GPU was throttled"


def _aside(run: Results) -> Iterator[str]:
    """Note on rows that worked on streams of a GPU that no event times."""
    if found := _runs_of(run, lambda sample: sample.aside_seconds > 0):
        yield f"the GPU worked on when the timed stream had ended, and wall-clock time counts: {found}"


def _hosts(run: Results) -> Iterator[str]:
    """Note on rows that are as fast as the host can launch them."""
    found = []
    for name, solo in run.solos.items():
        share = busy_share(solo, step_seconds(run.samples, name))
        if share is not None and share < BUSY_ENOUGH and solo.gpu_busy is not None:
            found.append(f"{_name(solo.case)} ({share:.0%} busy, {solo.gpu_busy.kernels} kernels a step)")
    if found:
        yield f"limited by the host, not by the GPU: {', '.join(found)}"


def _plain(run: Results) -> Iterator[str]:
    """Note on fused models that were timed in their plain form, and why."""
    names: dict[str, list[str]] = {}
    for solo in run.solos.values():
        if solo.why_plain is not None:
            names.setdefault(solo.why_plain, []).append(_name(solo.case))
    for why, found in names.items():
        yield f"in the plain form, not fused: {', '.join(found)} ({why})"


def _runs_of(run: Results, which: Callable[[Sample], bool]) -> str:
    """Rows that hold such runs, and how many each; empty without any."""
    timed = Counter(sample.case_id for sample in run.samples)
    counted = Counter(sample.case_id for sample in run.samples if which(sample))
    return ", ".join(
        f"{_name(solo.case)} ({counted[name]} of {timed[name]} runs)"
        for name, solo in run.solos.items()
        if counted[name]
    )


def _name(case: Case) -> str:
    return f"{title_of(case.implementation)} at {case.length}"
