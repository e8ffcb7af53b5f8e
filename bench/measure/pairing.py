"""Turns or a duet: whether what is compared is timed one after the other, or at the same time."""

from dataclasses import dataclass
from typing import get_args

import msgspec
import psutil

from bench.errors import UsageError
from bench.probes import limits
from bench.records.environment import Environment, Pairing
from bench.records.surroundings import BUSY_SHARE
from bench.system import processors
from bench.system.processors import Processors

PAIRINGS = ("auto", *get_args(Pairing))
LOOK_SECONDS = 0.5
"""Seconds for which other work is watched."""


@dataclass(frozen=True)
class Cores:
    """The processors that this process may use, one of each core."""

    granted: tuple[int, ...]

    @classmethod
    def of_this_process(cls) -> "Cores":
        """One processor of each core, no more than a control group grants."""
        own = [core[0] for core in processors.cores(processors.allowed())]
        quota = limits.cpu_quota()
        return cls(tuple(own if quota is None else own[: int(quota)]))

    @property
    def half(self) -> int:
        """Cores for each of two sides."""
        return len(self.granted) // 2

    def halves(self, threads: int) -> tuple[Processors, Processors]:
        """Processors of the two sides, one per thread; hyperthreads of one core are never on two sides."""
        return self.granted[:threads], self.granted[threads : 2 * threads]


@dataclass(frozen=True)
class Paired:
    """The way in which pairs are timed."""

    environment: Environment
    """With its pairing; in a duet `threads` are those of each side."""
    words: str
    """The pairing, and the reason for it."""


def check_pairing(wanted: str) -> None:
    """Raises UsageError for a word that is not one of them."""
    if wanted not in PAIRINGS:
        raise UsageError(f"--pairing {wanted}: choose {', '.join(PAIRINGS)}")


def pair(environment: Environment, wanted: str, threads: int | None, cores: Cores | None = None) -> Paired:
    """Decide how pairs are timed on this machine.

    wanted: auto, duet or turns; auto is a duet if each side has a core of its own and nothing else works.
    threads: as the user gave them. Raises UsageError if a duet is asked for and can't be.
    """
    check_pairing(wanted)
    if wanted == "turns":
        return Paired(environment, "timed in turns, as --pairing says")
    cores = cores or Cores.of_this_process()
    reason = _obstacle(environment, threads, cores)
    if wanted == "duet" and reason is not None:
        raise UsageError(f"--pairing duet: {reason}; --pairing turns does without")
    if wanted == "auto" and reason is None:
        reason = _company(cores)
    if reason is not None:
        return Paired(environment, f"timed in turns: {reason}")
    each = threads or cores.half
    sides = " and ".join(processors.as_text(side) for side in cores.halves(each))
    words = f"timed side by side, {each} thread{'' if each == 1 else 's'} each, on processors {sides}"
    return Paired(msgspec.structs.replace(environment, pairing="duet", threads=each), words)


def _obstacle(environment: Environment, threads: int | None, cores: Cores) -> str | None:
    """Why two sides can't be timed at the same time here; None if they can."""
    if environment.kind != "cpu":
        return "two models on one GPU do not run at the same time, but by turns of the driver's"
    if not processors.allowed():
        return "this system does not let a process choose its processors"
    if cores.half == 0:
        return "this process has one core, and each side needs its own"
    if threads is not None and threads > cores.half:
        return (
            f"--threads {threads} on each side need {2 * threads} cores, and there are {len(cores.granted)}"
        )
    return None


def _company(cores: Cores) -> str | None:
    """The cores that other work keeps busy, if those are too many."""
    busy = busy_cores(cores.granted)
    if busy <= BUSY_SHARE * len(cores.granted):
        return None
    return f"other work keeps {busy:.1f} of {len(cores.granted)} cores busy"


def busy_cores(granted: Processors) -> float:
    """Count how many of these processors' cores are busy now, watched for half a second.

    Work on a hyperthread slows down the other one of its core: a core is as busy as its busiest.
    """
    shares = psutil.cpu_percent(interval=LOOK_SECONDS, percpu=True)
    cores = processors.cores(range(len(shares)))
    return sum(max(shares[each] for each in core) for core in cores if set(core) & set(granted)) / 100
