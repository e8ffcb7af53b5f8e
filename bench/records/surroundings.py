"""A machine's other work and its condition while something was measured, and their meaning in words."""

from collections.abc import Iterator
from typing import Annotated, NamedTuple

import msgspec

BUSY_SHARE = 0.25
"""Share of the cores that other work may keep busy before timings suffer."""
HELD_SHARE = 0.95
"""Share of its highest clock below which a processor's clock is worth a remark."""

Load = Annotated[float, msgspec.Meta(ge=0)]


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a machine; None is what the system does not say."""

    load_average: Load
    """Processes that were running over the last minute, on average."""
    cores: Annotated[int, msgspec.Meta(ge=1)]
    """Cores that this process may use."""
    others: list[str] = []
    """Commands of other `bench` processes that measure."""
    on_battery: bool | None = None
    throttled: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Times that the processor was slowed down for heat since it was started."""
    clock_share: Load | None = None
    """Highest clock that is allowed, over the highest that the processor has."""


class Remark(NamedTuple):
    """Something that stands in the way of steady timings."""

    name: str
    found: str
    advice: str

    @property
    def line(self) -> str:
        return f"{self.found}: {self.advice}"


def remarks(before: Surroundings, after: Surroundings | None = None, own_load: float = 0.0) -> list[Remark]:
    """Remarks on what stood in the way, by looks before measuring and, if there is one, after it.

    own_load: threads that measuring itself keeps busy, which are part of the load after it.
    """
    return list(_remarks(before, after, own_load))


def _remarks(before: Surroundings, after: Surroundings | None, own_load: float) -> Iterator[Remark]:
    end_it = "other work takes time from what is measured; end it, or wait"
    if _is_busy(before.load_average, before):
        yield Remark("load", f"load {before.load_average:.1f} on {before.cores} cores", end_it)
    elif after is not None and _is_busy(after.load_average - own_load, after):
        found = f"load {after.load_average:.1f} on {after.cores} cores at the end"
        yield Remark("load", found, end_it)
    others = list(dict.fromkeys([*before.others, *(after.others if after else ())]))
    if others:
        found = f"another bench at work, {', '.join(others)}"
        yield Remark("another bench", found, "two that measure disturb each other; run one")
    looks = [before] if after is None else [before, after]
    if any(look.on_battery for look in looks):
        yield Remark("power", "on battery", "its clock is lower, and changes; plug it in")
    held = min((look.clock_share for look in looks if look.clock_share is not None), default=1.0)
    if held < HELD_SHARE:
        found = f"the clock is held at {held:.0%} of the processor's highest"
        yield Remark("clock", found, "timings are those of a slower machine; look at scaling_max_freq")
    if after is not None and (after.throttled or 0) > (before.throttled or 0):
        times = (after.throttled or 0) - (before.throttled or 0)
        found = f"the processor was slowed down for heat {times} times meanwhile"
        yield Remark("throttling", found, "cool it, or measure for a shorter time")


def _is_busy(load: float, surroundings: Surroundings) -> bool:
    return load > BUSY_SHARE * surroundings.cores
