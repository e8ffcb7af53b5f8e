"""Search for the first commit that made something slower or bigger: by halving, with commits skipped.

Every commit is compared with the good end. A commit is bad if it lies more than half-way (on the log scale)
to the bad end, so that it is told from either end by half of the change, whatever the size of that.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from bench.records.solo import Exact
from bench.stats.intervals import lower_bound, ratio_interval, upper_bound

Standing = Literal["good", "bad", "skipped"]

FIRST_BLOCKS, MORE_BLOCKS = 5, 10
"""Blocks of fresh processes for a commit; one that stays open gets the second number in addition."""


NOT_TIMED = "was not timed"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Finding on one commit, compared with the good end."""

    commit: str
    standing: Standing
    reason: str = ""
    """Why it was skipped."""
    ratio: float | None = None
    """Its time or cost over the good end's."""
    low: float | None = None
    """Lower end of the 95% interval over blocks; None for costs, which have no noise."""
    high: float | None = None
    blocks: int = 0
    exact: Exact | None = None
    threshold: float | None = None
    """The ratio above which it was to be bad."""

    def answers(self, threshold: float) -> bool:
        """Whether a kept finding need not be made again, now that commits are bad above this ratio.

        What was skipped before there was a ratio is skipped for every threshold.
        """
        return not self._is_cut_short and (self.ratio is None or self.threshold == threshold)

    @property
    def _is_cut_short(self) -> bool:
        """Whether a longer budget could tell what this one could not."""
        unclear = self.standing == "skipped" and self.ratio is not None
        return self.reason == NOT_TIMED or (unclear and self.blocks < FIRST_BLOCKS + MORE_BLOCKS)


@dataclass
class Search:
    """Halves the commits between a good and a bad end."""

    commits: Sequence[str]
    """Commits after the good end, up to and including the bad one, the oldest first."""
    found: dict[str, Found] = field(default_factory=dict)

    def next(self) -> str | None:
        """Commit to look at: the one nearest to the middle of the open ones; None if none is open."""
        low, high = self._bounds()
        still = [i for i in range(low + 1, high) if self.commits[i] not in self.found]
        middle = (low + high) / 2
        return self.commits[min(still, key=lambda i: abs(i - middle))] if still else None

    @property
    def first_bad(self) -> str:
        return self.commits[self._bounds()[1]]

    @property
    def last_good(self) -> str | None:
        """The nearest commit before that is good; None for the good end itself."""
        low = self._bounds()[0]
        return None if low < 0 else self.commits[low]

    @property
    def suspects(self) -> list[str]:
        """Skipped commits between the last good and the first bad one: it may have been one of them."""
        low, high = self._bounds()
        return list(self.commits[low + 1 : high])

    def _bounds(self) -> tuple[int, int]:
        """Positions of the last good and of the first bad commit; -1 is the good end."""
        standing = [self.found[name].standing if name in self.found else None for name in self.commits]
        high = standing.index("bad") if "bad" in standing else len(standing) - 1
        return max((i for i in range(high) if standing[i] == "good"), default=-1), high


def judged_by_cost(commit: str, exact: Exact, ratio: float, threshold: float) -> Found:
    """Judge by a cost, which has no noise. threshold: ratio above which a commit is bad."""
    return Found(commit=commit, standing="bad" if ratio > threshold else "good", ratio=ratio, exact=exact)


def judged_by_time(
    commit: str, exact: Exact | None, more_blocks: Callable[[int], Sequence[float]], threshold: float
) -> Found:
    """Judge by blocks: bad or good with 99% confidence, or, if more blocks can't tell either, skipped.

    more_blocks: takes a number, and returns the log ratios of all blocks so far. threshold: a ratio.
    """
    values: Sequence[float] = []
    for count in (FIRST_BLOCKS, MORE_BLOCKS):
        values = more_blocks(count)
        standing = _standing(values, math.log(threshold))
        if standing != "skipped":
            break
    if not values:
        return Found(commit=commit, standing="skipped", reason=NOT_TIMED, exact=exact)
    interval = ratio_interval(values)
    unclear = f"can't be told from either end in {len(values)} blocks"
    return Found(
        commit=commit,
        standing=standing,
        reason=unclear if standing == "skipped" else "",
        ratio=interval.ratio,
        low=interval.low,
        high=interval.high,
        blocks=len(values),
        exact=exact,
    )


def _standing(values: Sequence[float], threshold: float) -> Standing:
    if not values:
        return "skipped"
    if lower_bound(values) > threshold:
        return "bad"
    return "good" if upper_bound(values) < threshold else "skipped"


def half_way(ratio: float) -> float:
    """The threshold for a change of that ratio."""
    return math.sqrt(ratio)
