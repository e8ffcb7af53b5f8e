"""From the pairs of a duet to a block's value: which runs were side by side, and what they say together."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.records.run import Sample
from bench.stats.intervals import block_value, enough


class RunPair(NamedTuple):
    """Two runs at the same time."""

    first_half: bool
    """Whether the baseline was on the first half of the cores."""
    log_ratio: float
    """Log of the baseline's step time over the other's."""
    disturbed: bool


def values_by_block(samples: Iterable[Sample], baseline: str, other: str) -> dict[int, float]:
    """Per block, the log ratio of baseline to other (case ids), in which the halves of the cores cancel.

    A round counts if both of its visits were carried out; of a pair that was repeated, the last attempt.
    Pairs that something disturbed count only if a block has too few others.
    """
    blocks: dict[int, list[RunPair]] = defaultdict(list)
    for block, pairs in _rounds(samples, baseline, other):
        blocks[block] += pairs
    return {block: value_of(pairs) for block, pairs in blocks.items()}


def value_of(pairs: Sequence[RunPair]) -> float:
    """Mean of two medians: of the log ratios with the baseline on one half of the cores, and on the other.

    A half that is slower adds to the one what it takes from the other. Three pairs on a half outvote a burst
    in one of them, two do not.
    """
    halves = [[pair for pair in pairs if pair.first_half is half] for half in (True, False)]
    quiet = [[pair for pair in half if not pair.disturbed] for half in halves]
    sufficient = all(enough(len(few), len(half)) for few, half in zip(quiet, halves, strict=True))
    counted = quiet if sufficient else halves
    return statistics.fmean(block_value([pair.log_ratio for pair in half]) for half in counted)


def _rounds(samples: Iterable[Sample], baseline: str, other: str) -> Iterator[tuple[int, list[RunPair]]]:
    """Block and pairs of each whole round."""
    rounds: dict[tuple[int, int, int], dict[tuple[int, int], dict[str, Sample]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for sample in samples:
        place = (sample.block, sample.group, sample.round)
        rounds[place][sample.visit, sample.attempt][sample.case_id] = sample
    for (block, _, _), visits in rounds.items():
        whole = {at: runs for at, runs in visits.items() if baseline in runs and other in runs}
        # In order of the attempts: a visit that was repeated was disturbed in all of them but the last.
        last = {visit: whole[visit, attempt] for visit, attempt in sorted(whole)}
        if last.keys() == {0, 1}:
            yield block, [_pair(runs, baseline, other) for runs in last.values()]


def _pair(runs: Mapping[str, Sample], baseline: str, other: str) -> RunPair:
    one, two = runs[baseline], runs[other]
    return RunPair(
        first_half=one.position % 2 == 0,
        log_ratio=math.log(one.step_seconds / two.step_seconds),
        disturbed=one.disturbed_by is not None or two.disturbed_by is not None,
    )
