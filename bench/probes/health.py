"""Health of a machine: obstacles to a steady clock. Reads, decides nothing."""

import sys
from pathlib import Path

import msgspec

from bench.probes import gpu_state, nvml
from bench.records.gpu import GpuSettings
from bench.system import child


class GpuHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU as its driver sees it; None if that could not be read."""

    unreachable: str | None
    """Reason why NVML tells nothing of this device."""
    distrusted: str | None = None
    """Reason why the memory figure of a process can't be trusted."""
    throttled: str | None = None
    settings: GpuSettings = GpuSettings()
    cannot_compile: str | None = None
    """Why no Triton kernel can be compiled and run here."""
    other_processes: int | None = None
    clocks: dict[str, int] | None = None
    energy: bool = False
    """Whether the device counts the energy that it uses."""


def gpu_health(device: str) -> GpuHealth:
    """Ask NVML, and try it out. Makes a CUDA context in this process."""
    import torch

    from implementations.kernels.triton import unavailable

    cannot_compile = unavailable(torch.device(device))
    driver, missing = nvml.open_device(device)
    if driver is None:
        return GpuHealth(unreachable=missing, cannot_compile=cannot_compile)
    return GpuHealth(
        unreachable=None,
        distrusted=nvml.why_distrusted(driver, device),
        throttled=", ".join(nvml.throttle_reasons(driver) or ()) or None,
        settings=gpu_state.settings_of(driver),
        cannot_compile=cannot_compile,
        other_processes=nvml.other_processes(driver),
        clocks=nvml.clocks(device),
        energy=nvml.energy_millijoules(driver) is not None,
    )


def governor(sys_folder: Path = Path("/sys")) -> str | None:
    """The kernel's governor of the processor's frequency; None if it does not say."""
    return _read(sys_folder / "devices/system/cpu/cpu0/cpufreq/scaling_governor")


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None


if __name__ == "__main__":
    child.answer(msgspec.json.encode(gpu_health(sys.argv[1])))
