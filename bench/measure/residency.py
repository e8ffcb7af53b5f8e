"""Whose workers may be resident together: what each holds, and what the device or the machine has free."""

from collections.abc import Sequence

from bench.probes.limits import free_memory
from bench.records.environment import DeviceKind, Environment
from bench.records.solo import Solo

RESIDENT_SHARE = 0.8
"""Share of a machine's free memory that the workers of one block may fill together."""
GPU_SHARE = 0.97
"""The same of a GPU, on which nothing else is."""
CONTEXT_BYTES = 600 << 20
"""A CUDA context and its libraries, if the driver does not tell."""


def needed_bytes(solos: Sequence[Solo], kind: DeviceKind) -> int:
    """Memory that these workers hold together: on a CPU each its peak, on a GPU one its peak and others what
    is live between their steps, since a worker gives its cache back when it has answered."""
    if kind == "cpu":
        return sum(_peak_on_a_cpu(solo) for solo in solos)
    most = max((_peak(solo) - _idle(solo) for solo in solos), default=0)
    return most + sum(_context(solo) + _idle(solo) for solo in solos)


def room_bytes(environment: Environment) -> int:
    """Memory that the workers of one block may hold together."""
    if environment.kind == "cpu":
        return int(free_memory() * RESIDENT_SHARE)
    free = environment.memory_bytes if environment.free_bytes is None else environment.free_bytes
    return int(free * GPU_SHARE)


def _peak_on_a_cpu(solo: Solo) -> int:
    return max(solo.memory_bytes(kind) or 0 for kind in ("rss_high_water_whole_run", "tensor_bytes"))


def _peak(solo: Solo) -> int:
    return solo.memory_bytes("reserved") or 0


def _idle(solo: Solo) -> int:
    """A file of an earlier version does not say: all of it may be."""
    idle = solo.memory_bytes("reserved_idle")
    return _peak(solo) if idle is None else idle


def _context(solo: Solo) -> int:
    known = solo.memory_bytes("driver_only")
    return CONTEXT_BYTES if known is None else known
