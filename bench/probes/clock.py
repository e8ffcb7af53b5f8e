"""How long a number of steps takes: a monotonic clock on the CPU, events on CUDA, synchronised once."""

import time
from collections.abc import Callable

import torch

Step = Callable[[], object]


def seconds_of(step: Step, steps: int, device: torch.device) -> float:
    """Wall-clock seconds of a run of steps."""
    return _cuda_seconds(step, steps, device) if device.type == "cuda" else _cpu_seconds(step, steps)


def _cpu_seconds(step: Step, steps: int) -> float:
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - begin


def _cuda_seconds(step: Step, steps: int, device: torch.device) -> float:
    with torch.cuda.device(device):
        begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        begin.record()
        for _ in range(steps):
            step()
        end.record()
        end.synchronize()
    milliseconds: float = begin.elapsed_time(end)
    return milliseconds / 1e3
