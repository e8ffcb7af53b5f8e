"""Sources of a case's noise: its processes, its visits in one process, its steps in one visit."""

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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

    With two blocks a case's own estimate hardly says more than how noisy the machine is. What all cases of a
    block have in common, as the machine's speed in it, cancels in every ratio and is left out.
    """
    by_case: dict[str, dict[int, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        by_case[sample.case_id][sample.block].append(sample)
    found = {
        case_id: {number: counted(block) for number, block in blocks.items()}
        for case_id, blocks in by_case.items()
        if len(blocks) >= 2
    }
    common = _common([{number: _level(runs) for number, runs in blocks.items()} for blocks in found.values()])
    own = {case_id: _spread(blocks, common, len(found)) for case_id, blocks in found.items()}
    return {
        case_id: _drawn(spread, list(own.values()), len(found[case_id])) for case_id, spread in own.items()
    }


def _level(runs: Sequence[Sample]) -> float:
    return statistics.median(math.log(run.step_seconds) for run in runs)


def _common(levels: Sequence[Mapping[int, float]]) -> Mapping[int, float]:
    """Mean level of each block, of the cases that are in all of them; empty if that are not two at least."""
    numbers = {number for case in levels for number in case}
    whole = [case for case in levels if case.keys() == numbers]
    if len(whole) < 2:
        return {}
    return {number: statistics.fmean(case[number] for case in whole) for number in numbers}


def _spread(blocks: Mapping[int, Sequence[Sample]], common: Mapping[int, float], cases: int) -> Spread:
    """Spread by the method of moments, level by level; medians, since bursts are none of the three.

    common: what the cases of each block have in common, if there are several.
    """
    logs = [np.log([sample.step_seconds for sample in block]).tolist() for block in blocks.values()]
    distances = [abs(a - b) for block in logs for a, b in itertools.combinations(block, 2)]
    visits = (statistics.median(distances) / NORMAL) ** 2 if distances else 0.0
    between = statistics.variance(_level(runs) - common.get(number, 0.0) for number, runs in blocks.items())
    if common:
        # The common level has a share of the case's own noise in it.
        between *= cases / (cases - 1)
    visits_per_block = statistics.fmean(len(block) for block in logs)
    runs = [sample for block in blocks.values() for sample in block]
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
