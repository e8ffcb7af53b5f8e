"""One look at what else the machine is at: load, another `bench`, battery, clock. Reads, decides nothing."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from bench.records.surroundings import Surroundings
from bench.system import processors

SYS = Path("/sys")
MEASURE = ("run", "regress", "bisect", "doctor", "profile", "train", "verify", "reproduce")
"""Commands that are disturbed by each other."""
FIRST_WORDS = 5
"""Words of a command line among which `bench` stands: after an interpreter and its options."""


def read_surroundings(sys_folder: Path = SYS) -> Surroundings:
    """The machine as it is now."""
    cpus = sys_folder / "devices/system/cpu"
    return Surroundings(
        load_average=os.getloadavg()[0],
        cores=processors.count(),
        others=list(_others()),
        on_battery=_on_battery(),
        throttled=_throttled(cpus),
        clock_share=_clock_share(cpus),
    )


def _others() -> Iterator[str]:
    """Other `bench` processes that measure, but for those that this one runs in."""
    own = {os.getpid()}
    with contextlib.suppress(psutil.Error):
        own |= {parent.pid for parent in psutil.Process().parents()}
    for process in psutil.process_iter(["pid", "cmdline"]):
        command = measuring(process.info["cmdline"] or [])
        if command is not None and process.info["pid"] not in own:
            yield f"{command} (process {process.info['pid']})"


def measuring(words: Sequence[str]) -> str | None:
    """`bench run` for the command line of one; None for one of anything else."""
    starter = Path(words[0]).name if words else ""
    if starter != "bench" and not starter.startswith("python"):
        return None  # A shell, `timeout` or `nice` around it, which is a process of its own.
    for number, word in enumerate(words[:FIRST_WORDS]):
        is_module = number > 0 and words[number - 1] == "-m" and word in ("bench", "bench.cli")
        if is_module or Path(word).name == "bench":
            following = words[number + 1] if len(words) > number + 1 else ""
            return f"bench {following}" if following in MEASURE else None
    return None


def _on_battery() -> bool | None:
    try:
        battery = psutil.sensors_battery()
    except (AttributeError, OSError, ValueError):
        return None
    return None if battery is None or battery.power_plugged is None else not battery.power_plugged


def _throttled(cpus: Path) -> int | None:
    counts = [_number(file) for file in cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _clock_share(cpus: Path) -> float | None:
    shares = []
    for folder in cpus.glob("cpu[0-9]*/cpufreq"):
        allowed, highest = _number(folder / "scaling_max_freq"), _number(folder / "cpuinfo_max_freq")
        if allowed and highest:
            shares.append(allowed / highest)
    return min(shares, default=None)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
