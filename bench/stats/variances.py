"""Sources of a case's noise: its processes, its visits in one process, its steps in one visit."""

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.records.run import Sample
from bench.stats.ratios import counted

NORMAL = 0.6745 * 2**0.5
"""Median distance of two values of a normal distribution, in its standard deviations."""
MEDIAN_VARIANCE = 1.3
"""Variance of the median of a few values of a normal distribution, over that of their mean."""
PRIOR = 2
"""An estimate of a case alone counts as its own blocks; that of all cases as so many more."""


@dataclass(frozen=True)
class Spread:
    """Variances of the log of a case's step time."""

    processes: float
    """Between processes, beyond what their visits explain."""
    visits: float
    """Between visits of one process, beyond what their steps explain."""
    steps: float
    """Between steps of one visit; 0 if they were not timed."""

    def of_block(self, visits: int, steps: int) -> float:
        """Variance of a block's value: one process, so many visits, so many steps in each."""
        return self.processes + (self.visits + self.steps / steps) / visits


def spreads(samples: Iterable[Sample]) -> dict[str, Spread]:
    """Spreads of the cases that have two blocks at least, each drawn towards the mean of all.

    With two blocks a case's own estimate hardly says more than how noisy the machine is.
    """
    by_case: dict[str, dict[int, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        by_case[sample.case_id][sample.block].append(sample)
    own = {
        case_id: _spread([counted(found) for found in blocks.values()])
        for case_id, blocks in by_case.items()
        if len(blocks) >= 2
    }
    blocks = {case_id: len(by_case[case_id]) for case_id in own}
    return {case_id: _drawn(spread, list(own.values()), blocks[case_id]) for case_id, spread in own.items()}


def _spread(blocks: Sequence[Sequence[Sample]]) -> Spread:
    """Spread by the method of moments, level by level; medians, since bursts are none of the three."""
    logs = [np.log([sample.step_seconds for sample in block]).tolist() for block in blocks]
    distances = [abs(a - b) for block in logs for a, b in itertools.combinations(block, 2)]
    visits = (statistics.median(distances) / NORMAL) ** 2 if distances else 0.0
    between = statistics.variance(statistics.median(block) for block in logs)
    visits_per_block = statistics.fmean(len(block) for block in logs)
    runs = [sample for block in blocks for sample in block]
    steps = _of_steps(runs)
    of_runs = steps / statistics.fmean(sample.steps for sample in runs)
    of_medians = MEDIAN_VARIANCE * visits / visits_per_block
    return Spread(max(0.0, between - of_medians), max(0.0, visits - of_runs), steps)


def _of_steps(runs: Sequence[Sample]) -> float:
    """Variance between steps of one visit, of the log of their time."""
    relative = [
        (sample.step_deviation / sample.step_seconds) ** 2
        for sample in runs
        if sample.step_deviation is not None
    ]
    return statistics.median(relative) if relative else 0.0


def _drawn(spread: Spread, every: Sequence[Spread], blocks: int) -> Spread:
    def mixed(part: str) -> float:
        mean = statistics.fmean(getattr(other, part) for other in every)
        degrees = blocks - 1
        return float((degrees * getattr(spread, part) + PRIOR * mean) / (degrees + PRIOR))

    return Spread(mixed("processes"), mixed("visits"), mixed("steps"))
