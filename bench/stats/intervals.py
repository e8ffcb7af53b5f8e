"""Paired ratios and their intervals: plain functions on arrays.

The block, not the step, is the unit: steps of one process share its luck (addresses, caches, clocks),
so pooling them would claim a precision that is not there.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

MIN_BLOCKS = 3
"""Below this many blocks no interval is given."""
STOPPING_BLOCKS = 7
"""Blocks before which no run ends for its narrow intervals: it would end where its spread is estimated too
small, and its intervals would hold the truth too rarely."""
GATE_CONFIDENCE = 0.99
"""Confidence of each one-sided bound that a gate decides by."""

Verdict = Literal["REGRESSED", "PASSED", "INCONCLUSIVE"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A ratio with its confidence interval; low and high are None with fewer than MIN_BLOCKS blocks."""

    ratio: float
    low: float | None
    high: float | None
    blocks: int

    @property
    def half_width(self) -> float:
        """Half the interval's width on the log scale, which for small widths is a relative width."""
        if self.low is None or self.high is None:
            return math.inf
        return (math.log(self.high) - math.log(self.low)) / 2

    def inverse(self) -> "Interval":
        low = None if self.high is None else 1 / self.high
        high = None if self.low is None else 1 / self.low
        return Interval(1 / self.ratio, low, high, self.blocks)


def block_value(values: Sequence[float]) -> float:
    """Median of what was found in a block. Raises ValueError for nothing."""
    if not values:
        raise ValueError("a block without a round has no value")
    return statistics.median(values)


QUIET_WANTED = 3
"""Undisturbed runs of a case in a block, or in a duet on one half of the cores, below which disturbed ones
count too; fewer if it has fewer visits."""


def enough(quiet: int, visits: int) -> bool:
    """Whether so many undisturbed runs make a block's value alone.

    A median of fewer than three would be any one run's: if nearly every run was disturbed, the few that were
    not are no better.
    """
    return quiet >= min(QUIET_WANTED, visits)


def ratio_interval(block_values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean ratio over blocks (geometric), and Student's t interval over their log values."""
    values: Array = np.asarray(block_values, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no block, no ratio")
    mean = float(values.mean())
    if values.size < MIN_BLOCKS:
        return Interval(math.exp(mean), None, None, int(values.size))
    half = float(
        student_t(values.size - 1, (1 + confidence) / 2) * values.std(ddof=1) / math.sqrt(values.size)
    )
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half), int(values.size))


def unpaired_ratio(baseline: Sequence[float], other: Sequence[float], confidence: float = 0.95) -> Interval:
    """Ratio of two runs' times, baseline over other, and Welch's interval: for blocks that are not pairs.

    Both are the logs of block times. Low and high are None if either has fewer than MIN_BLOCKS.
    """
    mean, blocks = _mean(baseline) - _mean(other), min(len(baseline), len(other))
    if blocks < MIN_BLOCKS:
        return Interval(math.exp(mean), None, None, blocks)
    errors: Array = np.array([np.var(values, ddof=1) / len(values) for values in (baseline, other)])
    half = _welch_half_width(errors, np.array([len(baseline) - 1, len(other) - 1]), confidence)
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half), blocks)


def average_ratio(ratios: Sequence[Interval], confidence: float = 0.95) -> Interval:
    """Geometric mean of ratios that were measured apart, and its interval by Welch.

    The ratios' own intervals are of the same confidence. Low and high are None if one of them has none.
    Raises ValueError for no ratio.
    """
    mean = _mean([math.log(ratio.ratio) for ratio in ratios])
    blocks = min(ratio.blocks for ratio in ratios)
    if blocks < MIN_BLOCKS:
        return Interval(math.exp(mean), None, None, blocks)
    degrees: Array = np.array([ratio.blocks - 1.0 for ratio in ratios])
    quantiles = np.array([student_t(count, (1 + confidence) / 2) for count in degrees])
    errors: Array = (np.array([ratio.half_width for ratio in ratios]) / quantiles / len(ratios)) ** 2
    half = _welch_half_width(errors, degrees, confidence)
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half), blocks)


def _welch_half_width(errors: Array, degrees: Array, confidence: float) -> float:
    """Half-width for a sum or difference of means with these squared errors, by Welch and Satterthwaite."""
    if not errors.any():
        return 0.0
    common = float(errors.sum() ** 2 / (errors**2 / degrees).sum())
    return student_t(common, (1 + confidence) / 2) * math.sqrt(errors.sum())


def student_t(degrees: float, probability: float) -> float:
    """Quantile of Student's t distribution."""
    # special.stdtrit rather than scipy.stats, whose import takes longer than a whole `bench table`.
    return float(special.stdtrit(degrees, probability))


def lower_bound(block_values: Sequence[float], confidence: float = GATE_CONFIDENCE) -> float:
    """One-sided lower confidence bound of the mean; -inf with fewer than MIN_BLOCKS values."""
    return _mean(block_values) - _margin_of_error(block_values, confidence)


def upper_bound(block_values: Sequence[float], confidence: float = GATE_CONFIDENCE) -> float:
    """One-sided upper confidence bound of the mean; inf with fewer than MIN_BLOCKS values."""
    return _mean(block_values) + _margin_of_error(block_values, confidence)


def p_value_above(block_values: Sequence[float], threshold: float) -> float:
    """Probability of so high a mean if the true one is at most `threshold` (one-sided t test).

    1 with fewer than MIN_BLOCKS values: they are not evidence.
    """
    values: Array = np.asarray(block_values, dtype=np.float64)
    if values.size < MIN_BLOCKS:
        return 1.0
    excess = float(values.mean()) - threshold
    error = float(values.std(ddof=1)) / math.sqrt(values.size)
    if error == 0.0:
        return 0.0 if excess > 0 else 1.0
    return float(special.stdtr(values.size - 1, -excess / error))


def verdict(
    block_values: Sequence[float], margin: float, tolerance: float, confidence: float = GATE_CONFIDENCE
) -> Verdict:
    """Verdict of the blocks on a slowdown. All are logs: of time ratios, and of 1 + margin and 1 + tolerance.

    REGRESSED: the lower bound exceeds the margin. PASSED: the upper bound is under the tolerance.
    """
    if lower_bound(block_values, confidence) > margin:
        return "REGRESSED"
    return "PASSED" if upper_bound(block_values, confidence) < tolerance else "INCONCLUSIVE"


def holm(p_values: Sequence[float], level: float = 1 - GATE_CONFIDENCE) -> list[bool]:
    """Hypotheses that are rejected, with at most `level` chance of one false rejection (Holm)."""
    rejected = [False] * len(p_values)
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        if p_values[index] > level / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def smallest_difference(
    deviation: float, blocks: int, confidence: float = GATE_CONFIDENCE, power: float = 0.9
) -> float:
    """The mean that exceeds a threshold detectably, in `power` of all experiments of that many blocks.

    deviation: standard deviation of block values. Infinite with fewer than MIN_BLOCKS blocks.
    """
    if blocks < MIN_BLOCKS:
        return math.inf
    degrees = blocks - 1
    # Student's t of such experiments is non-central: how far, so that all but 1 - power pass the quantile?
    shift = float(special.nctdtrinc(degrees, 1 - power, student_t(degrees, confidence)))
    return shift * deviation / math.sqrt(blocks)


def _mean(block_values: Sequence[float]) -> float:
    if len(block_values) == 0:
        raise ValueError("no block, no bound")
    return float(np.asarray(block_values, dtype=np.float64).mean())


def _margin_of_error(block_values: Sequence[float], confidence: float) -> float:
    values: Array = np.asarray(block_values, dtype=np.float64)
    if values.size < MIN_BLOCKS:
        return math.inf
    return student_t(values.size - 1, confidence) * float(values.std(ddof=1)) / math.sqrt(values.size)
