"""Processors: which of them are cores of their own, and how a process keeps to some of them."""

import os
from collections.abc import Iterable
from pathlib import Path

SYSTEM = Path("/sys/devices/system/cpu")
TASKS = Path("/proc/self/task")

Processors = tuple[int, ...]


def allowed() -> Processors:
    """Processors that this process may use; empty if the system does not let a process choose."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def count() -> int:
    """Number of processors that this process may use, at least one."""
    return len(allowed()) or os.cpu_count() or 1


def cores(processors: Iterable[int], system: Path = SYSTEM) -> list[Processors]:
    """The same by core, in order: hyperthreads of one core are together.

    A processor of which the kernel does not say whose sibling it is counts as a core of its own.
    """
    left = set(processors)
    found = []
    while left:
        core = (_siblings(min(left), system) & left) | {min(left)}
        found.append(tuple(sorted(core)))
        left -= core
    return found


def keep_to(processors: Iterable[int]) -> None:
    """Let every thread of this process, and those that they start, run on these alone.

    Raises OSError if the system refuses.
    """
    chosen = set(processors)
    for thread in _threads():
        try:
            os.sched_setaffinity(thread, chosen)
        except ProcessLookupError:
            continue  # It has ended in between.


def reached() -> Processors:
    """Processors that some thread of this process may run on now."""
    found: set[int] = set()
    for thread in _threads():
        try:
            found |= os.sched_getaffinity(thread)
        except ProcessLookupError:
            continue
    return tuple(sorted(found))


def as_text(processors: Iterable[int]) -> str:
    """`0-3, 8`."""
    parts: list[list[int]] = []
    for number in sorted(processors):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _threads() -> list[int]:
    return [int(name) for name in os.listdir(TASKS)]


def _siblings(processor: int, system: Path) -> set[int]:
    """Processors of the same core, as the kernel lists them: `0-1` or `0,64`."""
    try:
        text = (system / f"cpu{processor}" / "topology" / "thread_siblings_list").read_text(encoding="ascii")
        found: set[int] = set()
        for part in text.strip().split(","):
            first, _, last = part.partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    except (OSError, ValueError):
        return set()
    return found
