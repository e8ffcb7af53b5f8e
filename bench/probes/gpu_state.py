"""A GPU's settings, and NVML's counters before and after a timed run."""

import os
from typing import NamedTuple

import psutil
import pynvml

from bench.probes import held_back, nvml
from bench.probes.nvml import Nvml, asked
from bench.records.gpu import EXCLUSIVE_PROCESS, POWER_CAP, GpuRun, GpuSettings
from bench.system.processors import Processors, allowed

HELD_BACK_SHARE = 0.05
"""Share of a run with clocks held down, for any reason but the power cap, from which on it is throttled."""
WORD = 64
"""Processors in one number of a mask."""
SET = pynvml.nvmlClocksThrottleReasonApplicationsClocksSetting
"""Bit of the reasons that is on if application or locked clocks hold the SM clock down."""
COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: EXCLUSIVE_PROCESS}


class Reading(NamedTuple):
    """The counters at one moment."""

    nanoseconds: dict[str, int] | None
    allocations: int | None


def reading(driver: Nvml | None, device: str) -> Reading:
    """The counters now; call it on a device that is idle."""
    return Reading(None if driver is None else held_back.counters(driver), allocations_of(device))


def allocations_of(device: str) -> int | None:
    """Blocks that torch's allocator has had from the driver so far; None if it does not tell."""
    import torch

    made: int | None = torch.cuda.memory_stats(device).get("num_device_alloc")
    return made


def run_between(before: Reading, after: Reading, driver: Nvml | None) -> GpuRun:
    """Differences between two readings; asks the clock, so call it right after the run."""
    held = reasons = None
    if before.nanoseconds and after.nanoseconds:
        then = before.nanoseconds
        moved = {name: count - then[name] for name, count in after.nanoseconds.items() if name in then}
        held = {name: 1e-9 * count for name, count in moved.items() if count > 0}
    else:
        reasons = nvml.throttle_reasons(driver)
    made = None
    if before.allocations is not None and after.allocations is not None:
        made = max(0, after.allocations - before.allocations)
    return GpuRun(sm_mhz=sm_clock(driver), held_back_seconds=held, allocations=made, reasons_after=reasons)


def sm_clock(driver: Nvml | None) -> int | None:
    """SM clock in MHz at this moment."""
    return None if driver is None else asked(lambda: driver.clock(pynvml.NVML_CLOCK_SM))


def throttled(run: GpuRun, seconds: float) -> str | None:
    """Why a run's clocks were held down for long, in words; None if they were not, or nobody can tell.

    The power cap alone is not a reason. Without counters, what holds them down right after the run decides.
    """
    if run.held_back_seconds is None:
        return ", ".join(name for name in run.reasons_after or () if name != POWER_CAP) or None
    held = {name: lost for name, lost in run.held_back_seconds.items() if name != POWER_CAP}
    return ", ".join(held) if sum(held.values()) > HELD_BACK_SHARE * seconds else None


def settings_of(driver: Nvml) -> GpuSettings:
    """The device's settings, each on its own: what can't be read is None."""
    handle = driver.handle
    enabled = pynvml.NVML_FEATURE_ENABLED
    limit = asked(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    default = asked(lambda: pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))
    persistence = asked(lambda: pynvml.nvmlDeviceGetPersistenceMode(handle))
    mode = asked(lambda: pynvml.nvmlDeviceGetComputeMode(handle))
    ecc = asked(lambda: pynvml.nvmlDeviceGetEccMode(handle)[0])
    reasons = asked(lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    return GpuSettings(
        power_limit_watts=None if limit is None else limit / 1e3,
        default_power_limit_watts=None if default is None else default / 1e3,
        max_sm_mhz=asked(lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)),
        held_by_clock_settings=None if reasons is None else bool(reasons & SET),
        persistence=None if persistence is None else persistence == enabled,
        compute_mode=None if mode is None else COMPUTE_MODES.get(mode, str(mode)),
        ecc=None if ecc is None else ecc == enabled,
        mig=driver.mig,
        throttle_counters=list(held_back.counters(driver)),
        mps=any("nvidia-cuda-mps" in (one.info["name"] or "") for one in psutil.process_iter(["name"])),
    )


def near_processors(driver: Nvml) -> Processors:
    """Processors beside the device that this process may use; empty if the driver does not tell.

    On a machine of two sockets, who launches from the far one launches later.
    """
    words = -(-(os.cpu_count() or 1) // WORD)
    mask = asked(lambda: pynvml.nvmlDeviceGetCpuAffinity(driver.handle, words))
    if mask is None:
        return ()
    near = {WORD * place + bit for place, word in enumerate(mask) for bit in range(WORD) if word >> bit & 1}
    return tuple(sorted(near & set(allowed())))
