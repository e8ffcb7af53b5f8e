"""A run's progress: blocks done of those to be expected, the time that is left to go, the widest interval."""

import math
from dataclasses import dataclass, replace

from bench.text.units import format_duration

BAR_WIDTH = 20


@dataclass(frozen=True)
class Progress:
    """A run's progress, by what was measured until now."""

    done: float
    """Blocks; one may be done in part if a block has several groups."""
    total: int
    """Blocks that are to be expected in all."""
    seconds_left: float | None = None
    """Seconds for the other blocks, if they take as long as those before; None before there was one."""
    widest: float | None = None
    """Half-width of the widest interval, as a fraction; None before there is one for every pair."""

    def after(self, seconds: float) -> "Progress":
        """The same so many seconds later, while a block is measured."""
        if self.seconds_left is None:
            return self
        return replace(self, seconds_left=max(0.0, self.seconds_left - seconds))

    @property
    def bar(self) -> str:
        filled = round(BAR_WIDTH * min(1.0, self.done / self.total)) if self.total else 0
        return "█" * filled + "░" * (BAR_WIDTH - filled)

    @property
    def words(self) -> str:
        """`2 of about 5 blocks done, about 24 s to go, widest interval ± 6.1%`."""
        parts = [f"{math.floor(self.done)} of about {self.total} blocks done"]
        if self.seconds_left is not None and self.seconds_left > 0:
            parts.append(f"about {_in_whole_seconds(self.seconds_left)} to go")
        if self.widest is not None:
            parts.append(f"widest interval ± {self.widest:.1%}")
        return ", ".join(parts)


def _in_whole_seconds(seconds: float) -> str:
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 60 else format_duration(whole)


def blocks_for(target: float, half_width: float, blocks: int) -> int:
    """Blocks after which an interval is as narrow as the target, by its width after some.

    An interval narrows with the square root of their number.
    """
    if half_width <= target:
        return blocks
    return math.ceil(blocks * (half_width / target) ** 2)
