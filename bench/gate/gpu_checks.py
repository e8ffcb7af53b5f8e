"""The doctor's checks of a GPU: its driver, its state, what it is set to, and what it can compile."""

from collections.abc import Iterator, Mapping

from bench.gate.check_up import CheckUp
from bench.probes.health import GpuHealth
from bench.probes.variables import in_the_way
from bench.records.environment import Environment
from bench.records.gpu import GpuSettings


def variables_check(variables: Mapping[str, str], *, gpu: bool) -> CheckUp:
    """Environment variables that change what is measured."""
    refused = in_the_way(variables) if gpu else None
    if refused is not None:
        return CheckUp("variables", "problem", refused, f"unset {refused.partition('=')[0]}")
    shown = ", ".join(f"{name}={value}" for name, value in variables.items())
    return CheckUp("variables", "ok", shown or "none that changes what is measured")


def gpu_checks(environment: Environment, gpu: GpuHealth) -> Iterator[CheckUp]:
    """Checks of a GPU: driver, kernels, NVML's self-test, clocks, throttling, other processes, energy."""
    yield driver_check(environment.driver, environment.cuda)
    yield kernel_check(gpu.cannot_compile)
    if gpu.unreachable is not None:
        advice = "clocks, throttling and the driver's memory figures are missing; check nvidia-smi"
        yield CheckUp("nvml", "warning", gpu.unreachable, advice)
        return
    yield _memory_figure(gpu.distrusted)
    clocks = ", ".join(f"{name} {value}" for name, value in (gpu.clocks or {}).items())
    yield _check("clocks", bool(clocks), clocks or "not readable", "runs can't be marked by them")
    yield _throttling(gpu.throttled)
    yield _company(gpu.other_processes)
    yield from settings_checks(gpu.settings)
    yield CheckUp("energy", "ok", "counted by the device" if gpu.energy else "not counted by this device")


def driver_check(driver: str | None, cuda: str | None) -> CheckUp:
    if driver is None:
        advice = "results will not say which driver made them; check nvidia-smi"
        return CheckUp("driver", "warning", f"its version can't be read, CUDA {cuda}", advice)
    return CheckUp("driver", "ok", f"{driver}, CUDA {cuda}")


def settings_checks(settings: GpuSettings) -> Iterator[CheckUp]:
    """One check for each setting that the driver tells."""
    yield from _power(settings)
    if settings.persistence is not None:
        advice = "the driver unloads between processes, which each then wait for: sudo nvidia-smi -pm 1"
        yield _check("persistence", settings.persistence, "on" if settings.persistence else "off", advice)
    if settings.compute_mode is not None:
        yield _compute_mode(settings.compute_mode)
    if settings.held_by_clock_settings is not None:
        held = settings.held_by_clock_settings
        found = (
            "held down by a setting"
            if held
            else f"not held down, up to {settings.max_sm_mhz} MHz (--lock-clocks)"
        )
        yield CheckUp("clock settings", "ok", found)
    if settings.throttle_counters is not None:
        yield _counters(settings.throttle_counters)
    if settings.ecc is not None:
        yield CheckUp("ECC", "ok", "on" if settings.ecc else "off")
    if settings.mps is not None:
        advice = "models share a context, and one that fails ends the others: stop nvidia-cuda-mps-control"
        yield _check("MPS", not settings.mps, "a server runs" if settings.mps else "none", advice)


def _memory_figure(distrusted: str | None) -> CheckUp:
    advice = "memory is read from torch's allocator, which the table shows anyway"
    found = distrusted or "this process's memory moves as it allocates"
    return _check("nvml", distrusted is None, found, advice)


def _throttling(throttled: str | None) -> CheckUp:
    if throttled is None:
        return CheckUp("throttling", "ok", "none")
    return CheckUp("throttling", "problem", throttled, "cool it, or lower its clocks: nvidia-smi -lgc")


def _counters(counted: list[str]) -> CheckUp:
    advice = (
        "a run is marked as throttled by the driver's reasons right after it alone: a newer driver counts"
    )
    found = ", ".join(counted) or "no throttle counters"
    return _check("throttle counters", bool(counted), found, advice)


def _company(others: int | None) -> CheckUp:
    if others is None:
        found = "this process is not listed, and can't be told from others"
        return CheckUp("company", "warning", found, "make sure that the GPU is yours")
    if others:
        found = f"{others} other processes compute on this GPU"
        return CheckUp("company", "problem", found, "end them, or choose another device: nvidia-smi")
    return CheckUp("company", "ok", "no other process on this GPU")


def _power(settings: GpuSettings) -> Iterator[CheckUp]:
    limit, default = settings.power_limit_watts, settings.default_power_limit_watts
    if limit is not None and default is not None:
        advice = f"lower than its default: sudo nvidia-smi -pl {default:.0f}"
        yield _check("power limit", limit >= default, f"{limit:.0f} W of {default:.0f} W", advice)


def _compute_mode(mode: str) -> CheckUp:
    if mode == "default":
        return CheckUp("compute mode", "ok", mode)
    advice = "a block has several processes on the GPU: sudo nvidia-smi -c DEFAULT"
    return CheckUp("compute mode", "problem", mode, advice)


def kernel_check(failure: str | None) -> CheckUp:
    """Whether one Triton kernel compiles and runs."""
    if failure is None:
        return CheckUp("triton", "ok", "a kernel compiles and runs")
    return CheckUp("triton", "warning", failure, "fused models run in their plain form until it can")


def _check(name: str, well: bool, found: str, advice: str) -> CheckUp:
    return CheckUp(name, "ok", found) if well else CheckUp(name, "warning", found, advice)
