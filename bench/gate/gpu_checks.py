"""The doctor's checks of what a GPU is set to, and of what it can compile."""

from collections.abc import Iterator, Mapping

from bench.gate.check_up import CheckUp
from bench.probes.variables import in_the_way
from bench.records.gpu import GpuSettings


def variables_check(variables: Mapping[str, str], *, gpu: bool) -> CheckUp:
    """Environment variables that change what is measured."""
    refused = in_the_way(variables) if gpu else None
    if refused is not None:
        return CheckUp("variables", "problem", refused, f"unset {refused.partition('=')[0]}")
    shown = ", ".join(f"{name}={value}" for name, value in variables.items())
    return CheckUp("variables", "ok", shown or "none that changes what is measured")


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
    if settings.ecc is not None:
        yield CheckUp("ECC", "ok", "on" if settings.ecc else "off")
    if settings.mps is not None:
        advice = "models share a context, and one that fails ends the others: stop nvidia-cuda-mps-control"
        yield _check("MPS", not settings.mps, "a server runs" if settings.mps else "none", advice)


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
