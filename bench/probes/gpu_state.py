"""A GPU's settings, and NVML's counters before and after a timed run."""

import os
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import psutil
import pynvml

from bench.probes.nvml import Nvml, quietly
from bench.records.gpu import GpuRun, GpuSettings
from bench.system.processors import Processors, allowed

T = TypeVar("T")

POWER_CAP = "power cap"
"""The one reason that is usual: the driver takes as much clock as the power limit pays for (NVML's
`SwPowerCap`), so a large GPU at full load is always there. It belongs to how fast the GPU is, and a run at it
counts. All others (heat, and a brake that the hardware pulls) come and go with what is around the GPU."""
COUNTERS = {
    POWER_CAP: pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP,
    "thermal slowdown": pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN,
    "hardware thermal slowdown": pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN,
    "power brake": pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN,
}
"""Nanoseconds for which each reason has held the clocks down so far."""
HELD_BACK_SHARE = 0.05
"""Share of a run that may pass with clocks held down, for any other reason, before it is called throttled."""
WORD = 64
"""Processors in one number of a mask."""
COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}


class Reading(NamedTuple):
    """The counters at one moment."""

    nanoseconds: dict[str, int] | None
    allocations: int | None


def reading(driver: Nvml | None) -> Reading:
    """The counters now; call it on a device that is idle."""
    import torch

    allocations = torch.cuda.memory_stats().get("num_device_alloc")
    return Reading(None if driver is None else _counters(driver), allocations)


def run_between(before: Reading, after: Reading, driver: Nvml | None) -> GpuRun:
    """Differences between two readings; asks the clock, so call it right after the run."""
    held = None
    if before.nanoseconds is not None and after.nanoseconds is not None:
        moved = {name: after.nanoseconds[name] - then for name, then in before.nanoseconds.items()}
        held = {name: 1e-9 * count for name, count in moved.items() if count > 0}
    made = None
    if before.allocations is not None and after.allocations is not None:
        made = max(0, after.allocations - before.allocations)
    return GpuRun(sm_mhz=sm_clock(driver), held_back_seconds=held, allocations=made)


def sm_clock(driver: Nvml | None) -> int | None:
    """SM clock in MHz at this moment."""
    return None if driver is None else _asked(lambda: driver.clock(pynvml.NVML_CLOCK_SM))


def throttled(run: GpuRun, seconds: float) -> str | None:
    """Why a run's clocks were held down for long, in words; None if they were not, or nobody can tell.

    The power cap alone is not a reason.
    """
    held = {name: lost for name, lost in (run.held_back_seconds or {}).items() if name != POWER_CAP}
    return ", ".join(held) if sum(held.values()) > HELD_BACK_SHARE * seconds else None


def settings_of(driver: Nvml) -> GpuSettings:
    """The device's settings, each on its own: what can't be read is None."""
    handle = driver.handle
    enabled = pynvml.NVML_FEATURE_ENABLED
    limit = _asked(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    default = _asked(lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))
    persistence = _asked(lambda: pynvml.nvmlDeviceGetPersistenceMode(handle))
    mode = _asked(lambda: pynvml.nvmlDeviceGetComputeMode(handle))
    ecc = _asked(lambda: pynvml.nvmlDeviceGetEccMode(handle)[0])
    reasons = _asked(lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    return GpuSettings(
        power_limit_watts=None if limit is None else limit / 1e3,
        default_power_limit_watts=None if default is None else default / 1e3,
        max_sm_mhz=_asked(lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)),
        held_by_clock_settings=None if reasons is None else bool(reasons & 2),
        persistence=None if persistence is None else persistence == enabled,
        compute_mode=None if mode is None else COMPUTE_MODES.get(mode, str(mode)),
        ecc=None if ecc is None else ecc == enabled,
        mig=driver.mig,
        mps=any("nvidia-cuda-mps" in (one.info["name"] or "") for one in psutil.process_iter(["name"])),
    )


def near_processors(driver: Nvml) -> Processors:
    """Processors beside the device that this process may use; empty if the driver does not tell.

    On a machine of two sockets, who launches from the far one launches later.
    """
    words = -(-(os.cpu_count() or 1) // WORD)
    mask = _asked(lambda: pynvml.nvmlDeviceGetCpuAffinity(driver.handle, words))
    if mask is None:
        return ()
    near = {WORD * place + bit for place, word in enumerate(mask) for bit in range(WORD) if word >> bit & 1}
    return tuple(sorted(near & set(allowed())))


def _counters(driver: Nvml) -> dict[str, int] | None:
    values = _asked(lambda: pynvml.nvmlDeviceGetFieldValues(driver.handle, list(COUNTERS.values())))
    if values is None or any(value.nvmlReturn != pynvml.NVML_SUCCESS for value in values):
        return None
    return {name: int(value.value.ullVal) for name, value in zip(COUNTERS, values, strict=True)}


def _asked(question: Callable[[], T]) -> T | None:
    with quietly():
        return question()
    return None
