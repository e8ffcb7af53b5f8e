"""A GPU's settings, and its counters while a run was timed."""

from typing import Annotated

import msgspec

Quantity = Annotated[float, msgspec.Meta(ge=0)]

POWER_CAP = "power cap"
"""The one reason for clocks below the requested ones that is usual: the driver takes as much clock as the
power limit pays for (NVML's `SwPowerCap`), so a large GPU at full load is always there. It belongs to how
fast the GPU is, and a run at it counts. All others (heat, and a brake that the hardware pulls) come and go
with what is around the GPU."""

EXCLUSIVE_PROCESS = "exclusive process"
"""Compute mode in which a GPU has one process at a time."""


class GpuSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a GPU that change what is measured; None if the driver does not tell."""

    power_limit_watts: Quantity | None = None
    default_power_limit_watts: Quantity | None = None
    max_sm_mhz: int | None = None
    held_by_clock_settings: bool | None = None
    """Whether application or locked clocks hold the SM clock down at this moment."""
    locked_sm_mhz: int | None = None
    """SM clock that `--lock-clocks` fixed."""
    persistence: bool | None = None
    compute_mode: str | None = None
    """`default`, `exclusive thread`, `prohibited` or `exclusive process`."""
    ecc: bool | None = None
    mig: bool | None = None
    mps: bool | None = None
    """Whether a server of CUDA's multi-process service runs on this machine."""
    throttle_counters: list[str] | None = None
    """Reasons for lower clocks whose time the driver counts; None in files that do not say."""


class GpuRun(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU's counters over a timed run; None for each that the driver lacks."""

    sm_mhz: int | None = None
    """SM clock right after the run."""
    held_back_seconds: dict[str, Quantity] | None = None
    """Seconds in which something held the clocks down, by reason; empty if nothing did."""
    allocations: int | None = None
    """Blocks that torch's allocator had from the driver in the run, each of which makes the device wait."""
    reasons_after: list[str] | None = None
    """Reasons for lower clocks right after the run, if the driver counts no seconds of them."""
