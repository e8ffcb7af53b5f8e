"""A step's trace for Chrome or Perfetto: operators under their stages, and a track of memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch.profiler import ProfilerActivity

from bench.errors import UsageError
from bench.probes.tensor_bytes import tensor_bytes
from bench.steps.step import Step

MEMORY = "[memory]"
"""Name of torch's events of what was allocated and freed."""


def write_trace(step: Step, path: Path) -> None:
    """Write one step. Raises UsageError if the file can't be written.

    It is a step of its own: to note every allocation takes time, which the profile's figures are without.
    """
    for parameter in step.model.parameters():
        # What was allocated before is not seen when it is freed.
        parameter.grad = None
    before = tensor_bytes(step.live())
    on_gpu = step.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        step()
        if on_gpu:
            torch.cuda.synchronize()
    try:
        path.touch()
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    profiler.export_chrome_trace(str(path))
    trace = msgspec.json.decode(path.read_bytes())
    trace["traceEvents"] += list(_counters(trace["traceEvents"], 0 if on_gpu else before))
    path.write_bytes(msgspec.json.encode(trace))


def _counters(events: list[dict[str, Any]], before: int) -> Iterator[dict[str, Any]]:
    """A counter for each event of memory, with what was live before on a CPU, where torch counts from 0."""
    for event in events:
        said = event.get("args", {})
        if event.get("name") == MEMORY and "Total Allocated" in said:
            on_cpu = said["Device Type"] == 0
            yield {
                "ph": "C",
                "name": "Memory, CPU" if on_cpu else f"Memory, GPU {said.get('Device Id', 0)}",
                "pid": event["pid"],
                "ts": event["ts"],
                "args": {"bytes": said["Total Allocated"] + (before if on_cpu else 0)},
            }
