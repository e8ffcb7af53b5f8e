"""From the pairs of a duet to a block's value: which runs were side by side, and what they say together."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bench.records.run import Sample
from bench.stats.intervals import block_value, enough


class RunPair(NamedTuple):
    """Two runs at the same time."""

    first_half: bool
    """Whether the baseline was on the first half of the cores."""
    log_ratio: float
    """Log of the baseline's step time over the other's."""
    disturbed: bool
    place: tuple[int, int, int] = (0, 0, 0)
    """Group, round and visit; a repeated pair has that of the first."""


def values_by_block(samples: Iterable[Sample], baseline: str, other: str) -> dict[int, float]:
    """Per block, the log ratio of baseline to other (case ids), in which the halves of the cores cancel.

    A round counts if both of its visits were carried out. Pairs that something disturbed count only if a
    block has too few others.
    """
    blocks: dict[int, list[RunPair]] = defaultdict(list)
    for block, pairs in _rounds(samples, baseline, other):
        blocks[block] += pairs
    return {block: value_of(pairs) for block, pairs in blocks.items()}


def value_of(pairs: Sequence[RunPair]) -> float:
    """Median over all pairs with the baseline here and all with it there of the mean of the two log ratios.

    A half that is slower adds to the one what it takes from the other. One burst moves a share of the means.
    """
    quiet = [pair for pair in pairs if not pair.disturbed]
    here, there = _by_half(quiet)
    if not (here and there and enough(len(quiet), len({pair.place for pair in pairs}))):
        here, there = _by_half(pairs)
    return block_value((np.add.outer(here, there) / 2).ravel().tolist())


def _by_half(pairs: Sequence[RunPair]) -> tuple[list[float], list[float]]:
    here, there = ([p.log_ratio for p in pairs if p.first_half is half] for half in (True, False))
    return here, there


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
        if {visit for visit, _ in whole} == {0, 1}:
            yield block, [_pair(runs, baseline, other) for runs in whole.values()]


def _pair(runs: Mapping[str, Sample], baseline: str, other: str) -> RunPair:
    one, two = runs[baseline], runs[other]
    return RunPair(
        first_half=one.position % 2 == 0,
        log_ratio=math.log(one.step_seconds / two.step_seconds),
        disturbed=one.disturbed_by is not None or two.disturbed_by is not None,
        place=(one.group, one.round, one.visit),
    )
