"""Was a timed run disturbed? Told by what the kernel says of it, never by how long it took.

One rule for all cases: what other work, the host or a quota took from a run is at most a fixed share of its
time, and nobody stopped it. A model that is slow, that sleeps or that waits for a disk gives its processor
away itself: it is in no queue. One with more threads than processors waits in the queue for itself: then
nothing else runs there meanwhile.
"""

from bench.records.conditions import Conditions

TAKEN_SHARE = 0.05
"""Share of a run's time that may be taken from it."""
UNSURE_SECONDS = 0.01
"""Times in /proc/stat are told in hundredths of a second, the last of which may have begun before the run."""


def disturbance(conditions: Conditions | None, throttled: str | None = None) -> str | None:
    """Why a run does not count, in words; None if nothing disturbed it.

    throttled: why a GPU's clocks were held down, if they were.
    """
    if throttled is not None:
        return f"the GPU was throttled ({throttled})"
    if conditions is None:
        return None
    if conditions.stops:
        return "its process was stopped and continued"
    taken = {
        "waited for a processor that other work had": _waited(conditions),
        "was not run by the host of this machine": _stolen(conditions),
        "had used up its quota of processor time": conditions.throttled_seconds or 0.0,
    }
    if sum(taken.values()) <= TAKEN_SHARE * conditions.wall_seconds:
        return None
    worst = max(taken, key=lambda words: taken[words])
    return f"{worst} for {taken[worst]:.2g} s of {conditions.wall_seconds:.2g} s"


def _waited(conditions: Conditions) -> float:
    """Seconds in which its threads could have run, and something else had their processors.

    Where the kernel does not tell how long each thread waits, how long anything did stands for it.
    """
    queued = conditions.queued_seconds
    if queued is None:
        queued = conditions.pressure_seconds or 0.0
    if conditions.others_seconds is None:
        return queued
    return min(queued, max(0.0, conditions.others_seconds - UNSURE_SECONDS))


def _stolen(conditions: Conditions) -> float:
    """Seconds that the host took, in the proportion that this process used of its processors."""
    seconds = max(0.0, (conditions.stolen_seconds or 0.0) - UNSURE_SECONDS)
    used = conditions.processor_seconds or 0.0
    together = used + (conditions.others_seconds or 0.0)
    return seconds * used / together if together else seconds
