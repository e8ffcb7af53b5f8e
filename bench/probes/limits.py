"""Limits of this process: memory and cores of the machine, as far as control groups grant them.

A container or a job of a cluster is a control group, which may lie within others (versions 1 and 2 of the
kernel's interface, see its documentation under admin-guide/cgroup-v1 and cgroup-v2). The tightest counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

PROC = Path("/proc")


@dataclass(frozen=True)
class Group:
    """A folder of one control group."""

    folder: Path
    version: int

    def number(self, name: str) -> int | None:
        """The value of a file; None without one, or if it sets no limit."""
        text = _read(self.folder / name)
        return int(text) if text is not None and text.lstrip("-").isdigit() and int(text) >= 0 else None

    def statistic(self, key: str, file: str = "memory.stat") -> int:
        """A value of a file of several; 0 if it is not there."""
        lines = (_read(self.folder / file) or "").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(f"{key} ")), 0)

    @property
    def throttled_seconds(self) -> float:
        """Processor time in which the group had used up its quota, until now."""
        if self.version == 2:
            return self.statistic("throttled_usec", "cpu.stat") / 1e6
        return self.statistic("throttled_time", "cpu.stat") / 1e9


def total_memory(proc: Path = PROC) -> int:
    """Bytes of the machine, or as many as control groups allow."""
    limits = [limit for group in _groups("memory", proc) if (limit := _memory_limit(group)) is not None]
    return min([psutil.virtual_memory().total, *limits])


def free_memory(proc: Path = PROC) -> int:
    """Bytes that can be taken without swapping, and without passing the limit of a control group."""
    free = psutil.virtual_memory().available
    for group in _groups("memory", proc):
        limit = _memory_limit(group)
        if limit is not None:
            free = min(free, max(0, limit - _memory_used(group)))
    return free


def cpu_quota(proc: Path = PROC) -> float | None:
    """Cores that control groups grant; None without a limit."""
    quotas = [quota for group in _groups("cpu", proc) if (quota := _quota(group)) is not None]
    return min(quotas, default=None)


def cpu_groups(proc: Path = PROC) -> list[Group]:
    """This process's group of processor time, and those around it."""
    return list(_groups("cpu", proc))


def _memory_limit(group: Group) -> int | None:
    names = ("memory.max", "memory.high") if group.version == 2 else ("memory.limit_in_bytes",)
    limits = [limit for name in names if (limit := group.number(name)) is not None]
    if group.version == 1 and (around := group.statistic("hierarchical_memory_limit")):
        limits.append(around)  # Also of groups around it that are not mounted here.
    return min(limits, default=None)


def _memory_used(group: Group) -> int:
    """Bytes in use, minus the page cache that the kernel gives back on demand."""
    if group.version == 2:
        return (group.number("memory.current") or 0) - group.statistic("inactive_file")
    return (group.number("memory.usage_in_bytes") or 0) - group.statistic("total_inactive_file")


def _quota(group: Group) -> float | None:
    if group.version == 2:
        quota, _, period = (_read(group.folder / "cpu.max") or "max").partition(" ")
        return None if quota == "max" else int(quota) / int(period)
    granted, of = group.number("cpu.cfs_quota_us"), group.number("cpu.cfs_period_us")
    return None if granted is None or not of else granted / of


def _groups(controller: str, proc: Path) -> Iterator[Group]:
    """This process's group of a controller, and those around it."""
    paths = _paths(proc)
    for line in (_read(proc / "self" / "mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        place, kind = before.split(), after.split()
        root, mount = place[3], Path(place[4])
        if kind[0] == "cgroup2":
            path, version = paths.get(""), 2
        elif kind[0] == "cgroup" and controller in kind[-1].split(","):
            path, version = paths.get(controller), 1
        else:
            continue
        if path is not None:
            # In a container the mount shows its own group, by whatever path the host knows it.
            inside = path.removeprefix(root) if root != "/" else path
            folder = mount / inside.lstrip("/")
            for around in (folder, *folder.parents):
                if around.is_relative_to(mount) and around.is_dir():
                    yield Group(around, version)


def _paths(proc: Path) -> dict[str, str]:
    """The paths of this process's groups by controller; the second version's by ''."""
    paths: dict[str, str] = {}
    for line in (_read(proc / "self" / "cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    return paths


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
