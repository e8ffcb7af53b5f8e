"""Time of a number of steps: a monotonic clock on the CPU, events on CUDA, checked by the clock."""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

Step = Callable[[], object]


ASIDE_SHARE, ASIDE_SECONDS = 0.02, 1e-3
"""Wall-clock time that exceeds a stream's own by both is not the latency of a launch or of a wait."""


class Elapsed(NamedTuple):
    """Times of a run of steps."""

    seconds: float
    """Seconds of wall-clock time."""
    waited: float | None
    """Seconds in which the thread that makes the steps was not on a processor; None on CUDA, where it may
    sleep while the device computes."""
    aside: float = 0.0
    """Seconds of a run on CUDA that its stream's events do not show, if they are too many for the clock's
    own noise: the model works on other streams as well. They are part of `seconds`."""
    step_deviation: float | None = None
    """Standard deviation of the steps' times in seconds; None for a single step, and on CUDA."""


SPIN_SECONDS = 1e-3
"""Seconds before a moment that is waited for in which the clock is read repeatedly: a sleep ends late."""


def wait_until(moment: float) -> None:
    """Wait for a moment of the system's monotonic clock, which all processes have in common."""
    left = moment - SPIN_SECONDS - time.monotonic()
    if left > 0:
        time.sleep(left)
    while time.monotonic() < moment:
        pass


def seconds_of(step: Step, steps: int, device: torch.device) -> float:
    """Wall-clock seconds of a run of steps."""
    return time_steps(step, steps, device).seconds


def time_steps(step: Step, steps: int, device: torch.device) -> Elapsed:
    """Run steps, and time them."""
    if device.type == "cuda":
        return _on_cuda(step, steps, device)
    return _on_the_cpu(step, steps)


def _on_the_cpu(step: Step, steps: int) -> Elapsed:
    begin_on_processor = time.thread_time()
    moments = [time.perf_counter()]
    for _ in range(steps):
        step()
        moments.append(time.perf_counter())
    on_processor = time.thread_time() - begin_on_processor
    seconds = moments[-1] - moments[0]
    each = [end - begin for begin, end in itertools.pairwise(moments)]
    deviation = statistics.stdev(each) if steps > 1 else None
    return Elapsed(seconds, max(0.0, seconds - on_processor), step_deviation=deviation)


def _on_cuda(step: Step, steps: int, device: torch.device) -> Elapsed:
    """Times of the current stream by its events, compared with the time until the whole device was idle."""
    with torch.cuda.device(device):
        first = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        last = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        begin = time.perf_counter()
        first.record()
        for _ in range(steps):
            step()
        last.record()
        torch.cuda.synchronize()
        wall = time.perf_counter() - begin
    streamed: float = first.elapsed_time(last) / 1e3
    aside = wall - streamed
    if aside > max(ASIDE_SHARE * streamed, ASIDE_SECONDS):
        return Elapsed(wall, None, aside)
    return Elapsed(streamed, None)
