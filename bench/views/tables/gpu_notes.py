"""Notes below a table on what a GPU did beside computing what was asked of it."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator

from bench.records.gpu import POWER_CAP
from bench.records.reading import Results
from bench.records.run import Sample
from bench.stats.ratios import step_seconds
from bench.suites.case import Case
from bench.text.units import format_bytes
from bench.views.tables.rows import busy_share
from bench.views.tables.titles import title_of

CAPPED_SHARE = 0.05
"""Share of a run at the power limit from which on it is told."""
BUSY_ENOUGH = 0.8
"""Below this share of a step, a GPU waits for the host so much that a faster one would change little."""


def gpu_notes(run: Results) -> list[str]:
    """Notes of one run, on what it holds of a GPU."""
    notes = (_throttled, _uncounted, _capped, _allocating, _aside, _hosts, _plain, _driver_only)
    return [words for note in notes for words in note(run)]


def _throttled(run: Results) -> Iterator[str]:
    throttled = sum(sample.throttled is not None for sample in run.samples)
    if throttled:
        yield f"{throttled} of {len(run.samples)} runs were made while the GPU was throttled"


def _uncounted(run: Results) -> Iterator[str]:
    """Note on a driver that does not count for how long clocks are held down."""
    gpu = run.header.environment.gpu
    if gpu is not None and gpu.throttle_counters == []:
        yield "the driver has no throttle counters: what holds the clocks down right after a run decides"


def _allocating(run: Results) -> Iterator[str]:
    """Note on rows whose timed runs, as a rule, hold the driver's allocations."""
    made: dict[str, list[int]] = {}
    for sample in run.samples:
        if sample.gpu is not None and sample.gpu.allocations is not None:
            made.setdefault(sample.case_id, []).append(sample.gpu.allocations)
    usual = {name: statistics.median(counts) for name, counts in made.items()}
    found = [
        f"{_name(solo.case)} ({usual[name]:g} per run)"
        for name, solo in run.solos.items()
        if usual.get(name, 0) > 0
    ]
    if found:
        yield f"the GPU waited for memory that the driver allocated in timed runs: {', '.join(found)}"


def _capped(run: Results) -> Iterator[str]:
    """Note on runs at the power limit, which count: it is the GPU's own, at full load."""
    capped = sum(
        sample.gpu is not None
        and (sample.gpu.held_back_seconds or {}).get(POWER_CAP, 0.0) > CAPPED_SHARE * sample.seconds
        for sample in run.samples
    )
    if capped:
        yield f"{capped} of {len(run.samples)} runs were made at the GPU's power limit, and count"


def _driver_only(run: Results) -> Iterator[str]:
    """Note on memory outside of torch's allocator, which no column shows."""
    found = {_name(solo.case): solo.memory_bytes("driver_only") for solo in run.solos.values()}
    known = {name: size for name, size in found.items() if size is not None}
    if known:
        most = max(known, key=lambda name: known[name])
        least, largest = (format_bytes(choose(known.values())) for choose in (min, max))
        yield (
            "memory that only the driver sees (context, libraries, spilled registers), beside Mem's: "
            + (least if least == largest else f"{least} to {largest} ({most})")
        )


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
            found.append(f"{_name(solo.case)} ({share:.0%} busy, {solo.gpu_busy.kernels} kernels per step)")
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
