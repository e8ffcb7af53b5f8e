"""Peak memory of one step: the figures of a device, each under its own name.

On a CPU: exact live tensor bytes, and the process's high-water mark. On CUDA: allocated, requested and
reserved peaks of torch's allocator, and the driver's figures for this process and the device.
"""

import gc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from bench.probes import nvml
from bench.probes.tensor_bytes import COMPILED, TensorBytes, is_compiled
from bench.records.solo import MemoryFigure

Step = Callable[[], object]


class StepMemory(NamedTuple):
    """Result of watching one step."""

    figures: list[MemoryFigure]
    growth: int | None
    """Bytes by which more is live after the step than before it; None if that can't be seen."""


def peak_of(
    step: Step, device: torch.device, live: Iterable[Tensor] = (), idle_bytes: int = 0, own_bytes: int = 0
) -> StepMemory:
    """Run a step: its peaks, each reset first, so that warm-up does not count, and what it leaves behind.

    live: tensors that are there before the step, and count on a CPU whether or not it reads them.
    idle_bytes: what the whole device had in use before this process came; its own figure is above that.
    own_bytes: what is the harness's on a GPU, and no figure of the model's contains.
    """
    return (
        _cuda_peaks(step, device, idle_bytes, own_bytes) if device.type == "cuda" else _cpu_peaks(step, live)
    )


def _cpu_peaks(step: Step, live: Iterable[Tensor]) -> StepMemory:
    whole_run = high_water_bytes()
    reset = reset_high_water()
    with TensorBytes(live) as watched:
        step()
    high_water = high_water_bytes() if reset is None else None
    peak, unseen = (None, COMPILED) if is_compiled() else (watched.peak, None)
    gc.collect()
    figures = [
        nvml.figure("tensor_bytes", peak, unseen),
        nvml.figure("rss_high_water", high_water, reset),
        nvml.figure("rss_high_water_whole_run", whole_run, None if whole_run else "no /proc/self/status"),
    ]
    return StepMemory(figures, None if unseen else max(0, watched.growth))


def high_water_bytes() -> int | None:
    """VmHWM of this process. `ru_maxrss` won't do: it is inherited across exec."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def reset_high_water() -> str | None:
    """Set the high-water mark back to what is resident; the reason if that can't be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError as error:
        return f"/proc/self/clear_refs: {error.strerror}"
    return None


def _cuda_peaks(step: Step, device: torch.device, idle_bytes: int, own_bytes: int) -> StepMemory:
    # Before the driver's figure is tried out, which allocates.
    whole_run = torch.cuda.max_memory_allocated(device)
    driver, missing = nvml.open_device(str(device))
    distrusted = missing if driver is None else nvml.why_distrusted(driver, str(device))
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    torch.cuda.synchronize(device)
    stats = torch.cuda.memory_stats(device)
    process = nvml.read_figure("nvml_process", driver, lambda gpu: gpu.process_bytes(), distrusted)
    outside = _outside(process, torch.cuda.memory_reserved(device))
    gc.collect()
    torch.cuda.empty_cache()
    growth = max(0, torch.cuda.memory_allocated(device) - before)
    figures = [
        MemoryFigure(kind="allocated", bytes=stats["allocated_bytes.all.peak"] - own_bytes),
        MemoryFigure(kind="requested", bytes=stats["requested_bytes.all.peak"] - own_bytes),
        MemoryFigure(kind="reserved", bytes=stats["reserved_bytes.all.peak"]),
        MemoryFigure(kind="reserved_idle", bytes=torch.cuda.memory_reserved(device)),
        process,
        outside,
        nvml.read_figure("nvml_device", driver, lambda gpu: gpu.device_bytes() - idle_bytes, missing),
        MemoryFigure(kind="allocated_whole_run", bytes=max(0, whole_run - own_bytes)),
    ]
    return StepMemory(figures, growth)


def _outside(process: MemoryFigure, reserved: int) -> MemoryFigure:
    """The driver's memory of this process outside torch's allocator: its context, libraries, modules, and the
    local memory that spilled registers take."""
    if process.bytes is None:
        return MemoryFigure(kind="driver_only", bytes=None, unavailable=process.unavailable)
    return MemoryFigure(kind="driver_only", bytes=max(0, process.bytes - reserved))
