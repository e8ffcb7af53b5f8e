"""How long a number of steps takes: a monotonic clock on the CPU, events on CUDA, synchronised once."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

Step = Callable[[], object]


class Elapsed(NamedTuple):
    """Times of a run of steps."""

    seconds: float
    """Seconds of wall-clock time."""
    waited: float | None
    """Seconds in which the thread that makes the steps was not on a processor; None on CUDA, where it may
    sleep while the device computes."""


def seconds_of(step: Step, steps: int, device: torch.device) -> float:
    """Wall-clock seconds of a run of steps."""
    return time_steps(step, steps, device).seconds


def time_steps(step: Step, steps: int, device: torch.device) -> Elapsed:
    """Run steps, and time them."""
    if device.type == "cuda":
        return Elapsed(_cuda_seconds(step, steps, device), None)
    return _on_the_cpu(step, steps)


def _on_the_cpu(step: Step, steps: int) -> Elapsed:
    begin, begin_on_processor = time.perf_counter(), time.thread_time()
    for _ in range(steps):
        step()
    seconds = time.perf_counter() - begin
    on_processor = time.thread_time() - begin_on_processor
    return Elapsed(seconds, max(0.0, seconds - on_processor))


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
