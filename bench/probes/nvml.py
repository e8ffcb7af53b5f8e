"""NVIDIA's management library: memory as the driver sees it, clocks and throttling.

Nothing here raises: what cannot be read is None, or an unavailable figure with the reason.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import pynvml

from bench.records.gpu import POWER_CAP
from bench.records.solo import MemoryFigure

T = TypeVar("T")

PROBE_BYTES = 256 << 20
TOLERANCE_BYTES = 32 << 20

_THROTTLE_REASONS = {
    "SwPowerCap": POWER_CAP,
    "HwSlowdown": "hardware slowdown",
    "SwThermalSlowdown": "thermal slowdown",
    "HwThermalSlowdown": "hardware thermal slowdown",
    "HwPowerBrakeSlowdown": "power brake",
}


class Nvml:
    """One GPU, matched to a torch device by UUID, since the two count devices differently."""

    def __init__(self, uuid: str) -> None:
        pynvml.nvmlInit()
        self.handle = _handle_of(uuid)
        self.mig = _is_mig(self.handle)

    def device_bytes(self) -> int:
        """Bytes in use on the whole device."""
        return int(pynvml.nvmlDeviceGetMemoryInfo(self.handle).used)

    def process_bytes(self) -> int | None:
        """Bytes that the driver attributes to this process; None if it lists no such process."""
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(self.handle):
            if process.pid == os.getpid() and process.usedGpuMemory is not None:
                return int(process.usedGpuMemory)
        return None

    def other_processes(self) -> int | None:
        """Number of other processes that compute on this device, asked in one that does.

        None if this one is not listed: in a PID namespace of its own, it can't be told from others.
        """
        listed = [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(self.handle)]
        return len(listed) - 1 if os.getpid() in listed else None

    def clock(self, kind: int) -> int:
        """A clock in MHz at this moment."""
        return int(pynvml.nvmlDeviceGetClockInfo(self.handle, kind))

    def throttle_reasons(self) -> list[str]:
        """Reasons why the clocks are held below the requested ones; empty if they are not."""
        mask = pynvml.nvmlDeviceGetCurrentClocksEventReasons(self.handle)
        return [
            words
            for name, words in _THROTTLE_REASONS.items()
            if mask & getattr(pynvml, f"nvmlClocksThrottleReason{name}")
        ]

    def clocks(self) -> dict[str, int]:
        """SM and memory clock in MHz, power in mW, temperature in °C."""
        read: dict[str, Callable[[], int]] = {
            "sm_mhz": lambda: self.clock(pynvml.NVML_CLOCK_SM),
            "memory_mhz": lambda: self.clock(pynvml.NVML_CLOCK_MEM),
            "power_milliwatts": lambda: pynvml.nvmlDeviceGetPowerUsage(self.handle),
            "temperature_celsius": lambda: pynvml.nvmlDeviceGetTemperature(
                self.handle, pynvml.NVML_TEMPERATURE_GPU
            ),
        }
        # A virtual GPU may lack one of them, and has the others.
        found = {name: asked(one) for name, one in read.items()}
        return {name: int(value) for name, value in found.items() if value is not None}


def asked(question: Callable[[], T]) -> T | None:
    """Answer of the driver; None if it gives none."""
    try:
        return question()
    except pynvml.NVMLError:
        return None


def open_device(device: str) -> tuple[Nvml | None, str | None]:
    """The GPU of a torch device, or None and the reason."""
    import torch

    try:
        return Nvml(str(torch.cuda.get_device_properties(device).uuid)), None
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"


def why_distrusted(
    nvml: Nvml, device: str, allocated: Callable[[str], AbstractContextManager[None]] | None = None
) -> str | None:
    """Why the per-process figure can't be trusted here, or None if it can.

    A known amount is allocated, and this process's figure must move by as much.
    allocated: context in which this process holds PROBE_BYTES more on the device; torch's if None.
    """
    if nvml.mig:
        return "MIG is on: the driver does not split processes by instance"
    try:
        before = nvml.process_bytes()
        if before is None:
            return "the driver lists no memory for this process (another PID namespace, or no permission)"
        with (allocated or _allocated)(device):
            after = nvml.process_bytes()
    except pynvml.NVMLError as error:
        return f"NVML: {error}"
    moved = (after or 0) - before
    if abs(moved - PROBE_BYTES) > TOLERANCE_BYTES:
        return f"allocating {PROBE_BYTES >> 20} MiB moved this process's figure by {moved >> 20} MiB"
    return None


@contextlib.contextmanager
def _allocated(device: str) -> Iterator[None]:
    import torch

    # In a pool of its own, where no block of the allocator's cache can serve it.
    with torch.cuda.device(device):
        pool = torch.cuda.MemPool()
    with torch.cuda.use_mem_pool(pool, device):
        block = torch.empty(PROBE_BYTES, dtype=torch.uint8, device=device)
    torch.cuda.synchronize(device)
    yield
    del block, pool
    torch.cuda.empty_cache()


def read_figure(
    kind: str, nvml: Nvml | None, read: Callable[[Nvml], int | None], unavailable: str | None
) -> MemoryFigure:
    """A figure that `read` gives for a device, or an unavailable one with the driver's reason."""
    if nvml is None or unavailable is not None:
        return figure(kind, None, unavailable)
    try:
        return figure(kind, read(nvml), None)
    except pynvml.NVMLError as error:
        return figure(kind, None, f"NVML: {error}")


def figure(kind: str, count: int | None, unavailable: str | None) -> MemoryFigure:
    if unavailable is not None or count is None:
        return MemoryFigure(kind=kind, bytes=None, unavailable=unavailable or "not listed by the driver")
    return MemoryFigure(kind=kind, bytes=count)


def driver_version() -> str | None:
    def version() -> str:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())

    return asked(version)


def clocks(device: str) -> dict[str, int] | None:
    nvml, _ = open_device(device)
    return None if nvml is None else nvml.clocks()


def throttle_reasons(nvml: Nvml | None) -> list[str] | None:
    """See Nvml.throttle_reasons; None if they can't be read."""
    return None if nvml is None else asked(nvml.throttle_reasons)


def device_bytes(nvml: Nvml | None) -> int | None:
    """See Nvml.device_bytes; None if it can't be read."""
    return None if nvml is None else asked(nvml.device_bytes)


def other_processes(nvml: Nvml) -> int | None:
    """See Nvml.other_processes; None also if the driver lists none."""
    return asked(nvml.other_processes)


def energy_millijoules(nvml: Nvml | None) -> int | None:
    """Energy that the device has used since the driver was loaded; None if it does not count."""
    if nvml is None:
        return None
    used = asked(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(nvml.handle))
    return None if used is None else int(used)


def _handle_of(uuid: str) -> Any:
    """Handle by UUID, which asks no other device: one of them may be lost."""
    known = uuid.removeprefix("GPU-").removeprefix("MIG-").lower()
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{known}")
    except pynvml.NVMLError:
        return pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{known}")


def _is_mig(handle: Any) -> bool:
    try:
        current, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError:
        return False
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)
