"""Use of the processors while a run is timed, as the kernel counts it. Reads, decides nothing."""

import contextlib
import os
import resource
import signal
import time
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from bench.probes.limits import PROC, cpu_groups
from bench.records.conditions import Conditions

NANOSECONDS = 1e-9
MICROSECONDS = 1e-6
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
"""Unit of the times in /proc/stat."""
STOLEN = 7
"""Place of stolen time in a line of /proc/stat, after the name."""
BUSY = (0, 1, 2, 5, 6)
"""Places of user, nice, system, irq and softirq."""


class Counters(NamedTuple):
    """Counters at one moment, in seconds; None if they can't be read."""

    wall: float
    processor: float
    queued: dict[str, float] | None
    """Seconds in the run queue, by thread."""
    busy: float | None
    stolen: float | None
    throttled: float | None
    pressure: float | None
    preemptions: int
    stops: int


class Watcher:
    """Reads the kernel's counters of this process, and counts how often it was stopped and continued."""

    def __init__(self, proc: Path = PROC) -> None:
        self.proc = proc
        self.groups = cpu_groups(proc)
        self.stops = 0

    def notice_stops(self) -> None:
        """Count from now on. Whoever continues a process sends it SIGCONT; nothing else tells it that it was
        stopped, and a model that sleeps is not sent one."""
        signal.signal(signal.SIGCONT, self._continued)
        signal.siginterrupt(signal.SIGCONT, False)

    def read(self) -> Counters:
        """The counters now."""
        busy, stolen = self._processors()
        return Counters(
            wall=time.monotonic(),
            processor=time.process_time(),
            queued=self._queued(),
            busy=busy,
            stolen=stolen,
            throttled=sum(group.throttled_seconds for group in self.groups) if self.groups else None,
            pressure=self._pressure(),
            preemptions=resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
            stops=self.stops,
        )

    def _continued(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1

    def _queued(self) -> dict[str, float] | None:
        """Seconds in the run queue, by thread."""
        found = {}
        try:
            for thread in os.listdir(self.proc / "self" / "task"):
                # A thread may end between the two.
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    text = (self.proc / "self" / "task" / thread / "schedstat").read_text(encoding="ascii")
                    _, queued, _ = map(int, text.split())
                    found[thread] = queued * NANOSECONDS
        except (OSError, ValueError):
            return None
        return found or None

    def _processors(self) -> tuple[float | None, float | None]:
        """Busy and stolen seconds of the processors that this process may use."""
        try:
            lines = (self.proc / "stat").read_text(encoding="ascii").splitlines()
            names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
            found = [fields for line in lines if (words := line.split()) and words[0] in names
                     for fields in [[int(word) for word in words[1:]]]]  # fmt: skip
            busy = sum(fields[place] for fields in found for place in BUSY)
            stolen = sum(fields[STOLEN] for fields in found)
        except (OSError, ValueError, IndexError, AttributeError):
            return None, None
        return busy * TICK_SECONDS, stolen * TICK_SECONDS

    def _pressure(self) -> float | None:
        try:
            text = (self.proc / "pressure" / "cpu").read_text(encoding="ascii")
            return int(text.splitlines()[0].rpartition("total=")[2]) * MICROSECONDS
        except (OSError, ValueError, IndexError):
            return None


def between(before: Counters, after: Counters) -> Conditions:
    """Differences between two readings."""
    processor = after.processor - before.processor
    busy = _difference(before.busy, after.busy)
    return Conditions(
        wall_seconds=max(0.0, after.wall - before.wall),
        processor_seconds=max(0.0, processor),
        queued_seconds=_queued_between(before.queued, after.queued),
        others_seconds=None if busy is None else max(0.0, busy - processor),
        stolen_seconds=_difference(before.stolen, after.stolen),
        throttled_seconds=_difference(before.throttled, after.throttled),
        pressure_seconds=_difference(before.pressure, after.pressure),
        preemptions=max(0, after.preemptions - before.preemptions),
        stops=after.stops - before.stops,
    )


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0.0, after - before)


def _queued_between(before: dict[str, float] | None, after: dict[str, float] | None) -> float | None:
    """Over all threads; one that was begun in between has waited since then only."""
    if before is None or after is None:
        return None
    return max(0.0, sum(seconds - before.get(thread, 0.0) for thread, seconds in after.items()))
