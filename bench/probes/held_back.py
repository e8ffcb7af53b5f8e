"""Time for which each reason has held a GPU's clocks down, by the driver's own counters."""

import pynvml

from bench.probes.nvml import Nvml, asked
from bench.records.gpu import POWER_CAP

STABLE = {POWER_CAP: (74, 0), "thermal slowdown": (75, 1)}
"""Field (`NVML_FI_DEV_PERF_POLICY_…`), and policy in an older call, of what every driver numbers alike."""
HARDWARE = {
    "hardware thermal slowdown": ("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN", {12: 252, 13: 270}),
    "power brake": ("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN", {12: 253, 13: 271}),
}
"""Name of the field in the binding, and its number by the CUDA version of the driver, of reasons that drivers
number differently: to the other ones, such a number is a setting."""


def counters(driver: Nvml) -> dict[str, int]:
    """Nanoseconds so far, by reason; only of reasons that the driver counts."""
    generation = _generation()
    read = {reason: _stable(driver, *numbers) for reason, numbers in STABLE.items()}
    read |= {reason: _hardware(driver, *field, generation) for reason, field in HARDWARE.items()}
    return {reason: count for reason, count in read.items() if count is not None}


def _stable(driver: Nvml, field: int, policy: int) -> int | None:
    counted = _field(driver, field)
    if counted is not None:
        return counted
    status = asked(lambda: pynvml.nvmlDeviceGetViolationStatus(driver.handle, policy))
    return None if status is None else int(status.violationTime)


def _hardware(driver: Nvml, name: str, numbers: dict[int, int], generation: int | None) -> int | None:
    """None also unless binding and driver mean the same field."""
    number = getattr(pynvml, name, None)
    return None if number is None or number != numbers.get(generation or 0) else _field(driver, number)


def _field(driver: Nvml, number: int) -> int | None:
    """A field by itself, so that one that is missing costs no other."""
    values = asked(lambda: pynvml.nvmlDeviceGetFieldValues(driver.handle, [number]))
    if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return None
    return int(values[0].value.ullVal)


def _generation() -> int | None:
    """Major version of CUDA that the driver is of."""
    version = asked(pynvml.nvmlSystemGetCudaDriverVersion)
    return None if version is None else int(version) // 1000
