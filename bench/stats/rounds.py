"""From the rounds of a block to its value for a pair of cases: the estimators, each a plain function."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bench.records.run import Estimator
from bench.stats.intervals import block_value

Round = tuple[Sequence[float], Sequence[float]]
"""Step times of the baseline's visits and of the other's in one palindromic round: cases are visited in some
order and then in its reverse, so that time which drifts linearly adds the same to the mean of each. A side is
empty if all its visits were disturbed."""


def round_log_ratio(baseline: Sequence[float], other: Sequence[float]) -> float:
    """Log of the baseline's mean time over the other's in one round."""
    return math.log(sum(baseline)) - math.log(sum(other)) - math.log(len(baseline) / len(other))


def median_of_rounds(rounds: Sequence[Round]) -> float:
    """Median over rounds of the log ratio of means. One burst moves a whole round: of two it leaves none.

    Where no round has visits of both, that of all visits together.
    """
    whole = [each for each in rounds if all(each)]
    return block_value([round_log_ratio(*each) for each in whole or [_together(rounds)]])


def median_of_differences(rounds: Sequence[Round]) -> float:
    """Median of the log ratios of each visit of the baseline to each of the other: Hodges–Lehmann.

    One burst moves the differences of its own visit only: with two rounds, a quarter.
    """
    return block_value(np.subtract.outer(*map(np.log, _together(rounds))).ravel().tolist())


def _together(rounds: Sequence[Round]) -> Round:
    baseline, other = ([seconds for each in rounds for seconds in each[side]] for side in (0, 1))
    return baseline, other


VALUES: Mapping[Estimator, Callable[[Sequence[Round]], float]] = {
    "rounds": median_of_rounds,
    "differences": median_of_differences,
}
