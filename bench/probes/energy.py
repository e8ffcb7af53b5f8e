"""Energy of a step, from the device's own counter: over seconds, since the counter moves in jumps."""

import math
import time
from collections.abc import Callable

from bench.records.solo import Energy

MIN_SECONDS = 5.0
RUN_SECONDS = 0.5
"""A run is as many steps as take this long: while the host waits for its end, the device idles."""

Counter = Callable[[], int | None]
"""Reads the millijoules that a device has used so far; None if it does not count."""


def energy_of(
    run: Callable[[int], float],
    counter: Counter,
    *,
    min_seconds: float = MIN_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Energy | None:
    """Joules of one step and the idle device's watts; None if the device does not count.

    run: makes that many steps, waits for their end, and gives the seconds that they took.
    """
    idle_from = counter()
    if idle_from is None:
        return None
    begin = clock()
    sleep(min_seconds)
    idle_seconds, idle_to = clock() - begin, counter()
    # The first step gets its memory anew.
    run(1)
    in_a_run = max(1, math.ceil(RUN_SECONDS / run(1)))
    busy_from, steps, begin = counter(), 0, clock()
    while steps == 0 or clock() - begin < min_seconds:
        run(in_a_run)
        steps += in_a_run
    seconds, busy_to = clock() - begin, counter()
    if idle_to is None or busy_from is None or busy_to is None:
        return None
    return Energy(
        step_joules=(busy_to - busy_from) / 1e3 / steps,
        idle_watts=(idle_to - idle_from) / 1e3 / idle_seconds,
        steps=steps,
        seconds=seconds,
    )
