"""Notes on disturbed runs: how many, why, and in which rows there were no others."""

from collections import Counter, defaultdict
from collections.abc import Callable

from bench.records.reading import Results
from bench.records.run import Sample
from bench.stats.ratios import counted
from bench.suites.case import Case

SHOWN = 5
"""Rows that are named; more would hide the message."""


def share_of(run: Results) -> str:
    """`, 12 of them (7%) disturbed`; empty in files that do not say."""
    if not any(sample.conditions for sample in run.samples):
        return ""
    count = sum(sample.disturbed_by is not None for sample in run.samples)
    return f", {count} of them ({count / len(run.samples):.0%}) disturbed" if count else ", none disturbed"


def disturbances(run: Results, name: Callable[[Case], str]) -> list[str]:
    """Notes on rows with runs that something held up, and what became of those.

    name: of a case, in a note.
    """
    timed = Counter(sample.case_id for sample in run.samples)
    repeated = Counter(sample.case_id for sample in run.samples if sample.disturbed_by)
    held_up = Counter(sample.case_id for sample in run.samples if sample.disturbed)

    def rows(disturbed: Counter[str]) -> list[str]:
        return [
            f"{name(solo.case)} ({disturbed[case_id]} of {timed[case_id]} runs)"
            for case_id, solo in run.solos.items()
            if disturbed[case_id]
        ]

    notes = []
    if held_up:
        notes.append(
            "timing was disturbed: more than half of a run's time its model waited for a processor, which is "
            f"not usual of it: {', '.join(rows(held_up))}"
        )
    if repeated:
        found = rows(repeated)
        more = f" and {len(found) - SHOWN} more rows" if len(found) > SHOWN else ""
        notes.append(
            f"disturbed runs were repeated and do not count: {', '.join(found[:SHOWN])}{more}; "
            f"for example, {_example(run.samples)}"
        )
    return [*notes, *_without_quiet_runs(run, name)]


def _example(samples: list[Sample]) -> str:
    return next(sample.disturbed_by for sample in samples if sample.disturbed_by)


def _without_quiet_runs(run: Results, name: Callable[[Case], str]) -> list[str]:
    """Blocks in which nearly every run of a case was disturbed."""
    found: dict[tuple[str, int, int], list[Sample]] = defaultdict(list)
    for sample in run.samples:
        found[sample.case_id, sample.block, sample.group].append(sample)
    lacking = {
        (case_id, block)
        for (case_id, block, _), samples in found.items()
        if any(sample.disturbed_by for sample in counted(samples))
    }
    blocks = Counter(case_id for case_id, _ in sorted(lacking))
    if not blocks:
        return []
    rows = [f"{name(run.solos[case_id].case)} ({count} blocks)" for case_id, count in blocks.items()]
    more = f" and {len(rows) - SHOWN} more rows" if len(rows) > SHOWN else ""
    half = " on one half of the cores" if run.header.environment.pairing == "duet" else ""
    return [
        f"fewer than three runs of a block were undisturbed{half}, so that all of them count there: "
        f"{', '.join(rows[:SHOWN])}{more}; quiet the machine, or measure again"
    ]
