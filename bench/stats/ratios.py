"""From timed samples to ratios: which case is compared with which, and what the blocks say."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from bench.records.run import Sample
from bench.stats.intervals import Interval, block_value, ratio_interval, round_log_ratio
from bench.suites.case import Case

Visits = Mapping[str, list[float]]


def baseline_of(case: Case, cases: Iterable[Case], baseline: str) -> Case | None:
    """The case that another's ratio is against: the baseline's in the same cell of the grid."""
    return next(
        (other for other in cases if other.implementation == baseline and other.cell == case.cell), None
    )


def block_values(samples: Iterable[Sample], baseline: str, other: str, via: str | None = None) -> list[float]:
    """Per block, the median over rounds of the log ratio of baseline to other (case ids).

    A round counts when both cases were visited twice in it, in one group. Blocks that timed them in different
    groups count by way of a third case that was in both, where one is named: a run's baseline is in all.
    """
    times = _times(sample for sample in samples if sample.case_id in (baseline, other, via))
    found = _by_block(times, baseline, other)
    if via is not None and via not in (baseline, other):
        there, back = _by_block(times, baseline, via), _by_block(times, via, other)
        found = {block: there[block] + back[block] for block in there.keys() & back.keys()} | found
    return [value for _, value in sorted(found.items())]


def _times(samples: Iterable[Sample]) -> dict[tuple[int, int, int], Visits]:
    """Step times of each case's visits, by block, group and round."""
    times: dict[tuple[int, int, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        times[sample.block, sample.group, sample.round][sample.case_id].append(sample.step_seconds)
    return {place: dict(visits) for place, visits in times.items()}


def _by_block(times: Mapping[tuple[int, int, int], Visits], baseline: str, other: str) -> dict[int, float]:
    blocks: dict[int, list[float]] = defaultdict(list)
    for (block, _, _), visits in times.items():
        if all(len(visits.get(name, [])) == 2 for name in (baseline, other)):
            blocks[block].append(round_log_ratio(visits[baseline], visits[other]))
    return {block: block_value(values) for block, values in blocks.items()}


def speed_ratio(
    samples: Iterable[Sample], baseline: str, other: str, via: str | None = None
) -> Interval | None:
    """How many times faster a case is than its baseline; None before the first complete round."""
    values = block_values(samples, baseline, other, via)
    return ratio_interval(values) if values else None


def step_seconds(samples: Iterable[Sample], case_id: str) -> float | None:
    """Median over blocks of the median step time in a block, in seconds."""
    times = block_step_seconds(samples, case_id)
    return block_value(times) if times else None


def block_step_seconds(samples: Iterable[Sample], case_id: str) -> list[float]:
    """Per block, the median step time in seconds."""
    blocks: dict[int, list[float]] = defaultdict(list)
    for sample in samples:
        if sample.case_id == case_id:
            blocks[sample.block].append(sample.step_seconds)
    return [block_value(times) for _, times in sorted(blocks.items())]
