"""Was a timed run disturbed? By how long it waited for a processor, beyond what the model usually waits."""

import statistics

from bench.probes.clock import Elapsed

DISTURBED_SHARE = 0.5
"""A run is disturbed if it spent more than this share of its time waiting, beyond what is usual."""


class Waits:
    """How long the steps of one worker wait: for a disk, for each other, or because the model sleeps.

    A model that is merely slow waits as long in one run as in any other; one that was stopped, or whose
    processor was given to others, waits longer than it does.
    """

    def __init__(self) -> None:
        self._warm_up: list[float] = []
        self._timed: list[float] = []

    def warmed(self, elapsed: Elapsed) -> None:
        """Take note of a step of the warm-up."""
        if elapsed.waited is not None:
            self._warm_up.append(elapsed.waited)

    def is_disturbed(self, elapsed: Elapsed, steps: int) -> bool:
        """Whether a timed run was disturbed. Takes note of it, for the next."""
        if elapsed.waited is None or not self._warm_up:
            return False
        # The mean of the warm-up: a model that waits in some of its steps only is not disturbed.
        usual = max(statistics.fmean(self._warm_up), statistics.median(self._timed or [0.0]))
        self._timed.append(elapsed.waited / steps)
        return elapsed.waited - steps * usual > DISTURBED_SHARE * elapsed.seconds
