"""Changes of a series' level: proposed by ruptures, and kept only if they can be told from noise."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.stats.intervals import Interval, student_t
from bench.system.extras import require

MIN_LEVEL = 3
"""Values that a level has at least, so that it has a spread of its own."""
CONFIDENCE = 0.999
"""Confidence of the interval around a change that must not hold 1. In simulated series without one (6 to 40
values), at most one in eighty shows one."""
PENALTY = 3.0
"""Penalty of a change, in units of the noise's variance times the log of the series' length: modified BIC."""
LEAST_NOISE = 1e-3
"""Relative. Figures that repeat exactly (bytes) would make a change of every digit."""

Array = npt.NDArray[np.float64]


def change_points(values: Sequence[float]) -> list[int]:
    """Indices at which a new level begins, in a series of positive values; none in fewer than six.

    PELT finds the best levels (Killick et al., 2012); neighbours that differ by no more than the noise could
    explain are joined again.
    """
    if len(values) < 2 * MIN_LEVEL:
        return []
    ruptures = require("ruptures", "store")
    logs: Array = np.log(np.asarray(values, dtype=np.float64))
    penalty = PENALTY * _noise(logs) ** 2 * math.log(len(values))
    # With a linear kernel it minimises squares, in C: ruptures.Pelt takes minutes for thousands of values.
    search = ruptures.KernelCPD(kernel="linear", min_size=MIN_LEVEL).fit(logs.reshape(-1, 1))
    return _told_from_noise(logs, [int(index) for index in search.predict(pen=penalty)[:-1]])


def _told_from_noise(logs: Array, found: list[int]) -> list[int]:
    """The changes that are left when the weakest is dropped until all are clear."""
    clear = {index: _clearness(logs, found, index) for index in found}
    while clear:
        weakest = min(clear, key=clear.__getitem__)
        if clear[weakest] > 1:
            break
        place = found.index(weakest)
        found.remove(weakest)
        del clear[weakest]
        for index in found[max(0, place - 1) : place + 1]:
            clear[index] = _clearness(logs, found, index)
    return found


def levels(values: Sequence[float], found: Sequence[int]) -> list[Sequence[float]]:
    """The series in pieces, one for each level."""
    return [values[begin:end] for begin, end in itertools.pairwise([0, *found, len(values)])]


def level_ratio(before: Sequence[float], after: Sequence[float], confidence: float = 0.95) -> Interval:
    """Ratio of the later level to the earlier (geometric means), and Student's t interval.

    The levels share one spread, that of one machine: each alone is often too short to estimate it.
    """
    first, second = (np.log(np.asarray(level, dtype=np.float64)) for level in (before, after))
    difference = float(second.mean() - first.mean())
    half = _half_width(first, second, confidence)
    ratio, low, high = (math.exp(difference + shift) for shift in (0, -half, half))
    return Interval(ratio, low, high, min(len(before), len(after)))


def _noise(logs: Array) -> float:
    """Standard deviation around the levels, by the median step between neighbours: few are changes."""
    normal = 0.6745 * math.sqrt(2)
    return max(LEAST_NOISE, float(np.median(np.abs(np.diff(logs)))) / normal)


def _clearness(logs: Array, found: Sequence[int], index: int) -> float:
    """Distance of the levels on both sides, in half-widths of the interval."""
    edges = [0, *found, len(logs)]
    place = edges.index(index)
    before, after = logs[edges[place - 1] : index], logs[index : edges[place + 1]]
    half = _half_width(before, after, CONFIDENCE)
    return float("inf") if half == 0 else abs(float(after.mean() - before.mean())) / half


def _half_width(first: Array, second: Array, confidence: float) -> float:
    degrees = first.size + second.size - 2
    squares = float(((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum())
    error = math.sqrt(squares / degrees * (1 / first.size + 1 / second.size))
    return student_t(degrees, (1 + confidence) / 2) * error
