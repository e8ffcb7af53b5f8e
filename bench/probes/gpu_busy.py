"""Time that a GPU computes in one step, by its own profiler; for the rest it waits."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from bench.records.solo import GpuBusy

Span = tuple[float, float]
"""Beginning and end of a kernel, in microseconds."""


def busy_of(step: Callable[[], object], device: torch.device) -> GpuBusy | None:
    """Run a step under the profiler; None if it shows no kernels, for want of permission or of a GPU."""
    spans = kernels_of(step, device)
    return GpuBusy(seconds=1e-6 * covered(spans), kernels=len(spans)) if spans else None


def kernels_of(step: Callable[[], object], device: torch.device) -> list[Span]:
    """The spans of what ran on the device in a step: kernels, copies and fills."""
    torch.cuda.synchronize(device)
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize(device)
    return list(_spans(profiler.events() or ()))


def _spans(events: Iterable[Any]) -> Iterable[Span]:
    for event in events:
        # A range of the host's, such as the optimiser's, is shown on the device too, gaps included.
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation:  # type: ignore[attr-defined]
            yield event.time_range.start, event.time_range.end


def covered(spans: Iterable[Span]) -> float:
    """Time that spans cover together; kernels may run side by side."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
