"""From the rounds of a block to its value for a pair of cases: the estimators, each a plain function."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bench.records.run import Estimator
from bench.stats.intervals import block_value

Round = tuple[Sequence[float], Sequence[float]]
"""Step times of the baseline's visits and of the other's in one palindromic round: cases are visited in some
order and then in its reverse, so that time which drifts linearly adds the same to the mean of each."""


def round_log_ratio(baseline: Sequence[float], other: Sequence[float]) -> float:
    """Log of the baseline's mean time over the other's in one round."""
    return math.log(sum(baseline)) - math.log(sum(other)) - math.log(len(baseline) / len(other))


def median_of_rounds(rounds: Sequence[Round]) -> float:
    """Median over rounds of the log ratio of means. One burst moves a whole round: of two it leaves none."""
    return block_value([round_log_ratio(*each) for each in rounds])


def median_of_differences(rounds: Sequence[Round]) -> float:
    """Median of the log ratios of each visit of the baseline to each of the other in the same round.

    The Hodges–Lehmann estimator of a shift, within rounds, so that drift from round to round cancels too.
    One burst moves the differences of its own visit only: with two rounds, a quarter.
    """
    logs = [(np.log(baseline), np.log(other)) for baseline, other in rounds]
    return block_value(np.concatenate([np.subtract.outer(*pair).ravel() for pair in logs]).tolist())


VALUES: Mapping[Estimator, Callable[[Sequence[Round]], float]] = {
    "rounds": median_of_rounds,
    "differences": median_of_differences,
}
