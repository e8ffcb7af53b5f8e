"""What a GPU says of the models, one line per figure: steps, spikes, the moving average, graphs, faults.

`python probe.py PART …`. The device is PROBE_DEVICE, `cuda:0`; `cpu` is a dry run in small sizes. A part that
fails says why, and the others go on.
"""

import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import torch
from torch.profiler import ProfilerActivity, profile

from bench.probes.clock import seconds_of
from bench.probes.gpu_busy import busy_of
from bench.probes.gpu_state import allocations_of
from bench.steps import modes
from bench.steps.step import Step
from bench.suites.case import Mode
from bench.suites.reading import load
from bench.workers.failures import failure_of
from implementations.ops.ema import DampedEMA

DEVICE = torch.device(os.environ.get("PROBE_DEVICE", "cuda:0"))
ON_GPU = DEVICE.type == "cuda"
BATCH, LENGTH, SINGLE_STEPS = (25, 4096, 100) if ON_GPU else (1, 64, 3)
LONG = 16384 if ON_GPU else 128
BASELINES = {"lra-text-4k": "transformer", "enwik8-8k": "mega-chunk"}
MODELS = os.environ.get(
    "PROBE_MODELS", "transformer,transformer-sdpa,mega-chunk,mega-chunk-fused,s4,seqboat,seqboat-fused"
).split(",")
PRECISIONS = os.environ.get("PROBE_PRECISIONS", "fp32,bf16").split(",")
COUNT = 20 if ON_GPU else 2
"""Steps of a run whose time is not known."""
RUN_SECONDS = 0.5 if ON_GPU else 0.05
LONGEST = 10
"""Kernels that are named, of those that a step spends most time in."""
SPIKE = 1.5
"""A step that takes this many times the median has compiled or loaded something."""
CHUNKS = (32, 64, 128, 256)

Lines = Iterator[str]


def step_of(
    name: str,
    precision: str,
    *,
    suite: str = "lra-text-4k",
    length: int = LENGTH,
    batch: int = BATCH,
    mode: Mode = "eager",
) -> Step:
    """A step of a model of a suite, calibrated."""
    models = list(dict.fromkeys([BASELINES[suite], name]))
    sizes = {"lengths": [length], "batch": {"cpu": batch, "cuda": batch}}
    changes = {"implementations": models, "precision": precision, **sizes}
    cases = load(suite, changes).cases(DEVICE.type)
    case = next(case for case in cases if case.implementation == name)
    step = Step(msgspec.structs.replace(case, mode=mode), str(DEVICE))
    step.calibrate()
    return step


def steps() -> Lines:
    """Times, memory and kernels of each model and precision."""
    for precision in PRECISIONS:
        for name in MODELS:
            yield from _said(f"{precision} {name}", functools.partial(_step, name, precision))
            if ON_GPU:
                torch.cuda.empty_cache()


def _step(name: str, precision: str) -> Lines:
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats(DEVICE)
    begin = time.perf_counter()
    step = step_of(name, precision)
    seconds_of(step, 1, DEVICE)
    first = time.perf_counter() - begin
    seconds_of(step, 4, DEVICE)
    count = max(3, min(30, int(RUN_SECONDS / max(1e-4, seconds_of(step, 1, DEVICE)))))
    before = allocations_of(str(DEVICE)) if ON_GPU else None
    together = seconds_of(step, count, DEVICE) / count
    alone = statistics.median(seconds_of(step, 1, DEVICE) for _ in range(7))
    yield f"{_ms(together)} per step in runs of {count}, {_ms(alone)} alone; built and first in {first:.1f} s"
    if before is not None:
        yield from _on_gpu(step, together, before)


def _on_gpu(step: Step, seconds: float, allocations: int) -> Lines:
    device = str(DEVICE)
    made, peak = (allocations_of(device) or 0) - allocations, torch.cuda.max_memory_allocated(device)
    busy = busy_of(step, DEVICE)
    if busy is not None:
        share = f"({busy.seconds / seconds:.0%}), {busy.kernels} kernels"
        yield f"GPU busy {_ms(busy.seconds)} {share}; peak {peak / 2**30:.1f} GiB; {made} allocations"
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize(DEVICE)
    kernels = sorted(profiler.key_averages(), key=lambda one: -one.self_device_time_total)
    for kernel in kernels[:LONGEST]:
        yield f"    {kernel.self_device_time_total / 1e3:8.3f} ms  {kernel.key[:60]}"


def spikes() -> Lines:
    """Single steps: one in which a kernel is compiled or loaded stands out."""
    for name in ("seqboat-fused", "seqboat"):
        step = step_of(name, "fp32")
        times = [seconds_of(step, 1, DEVICE) for _ in range(SINGLE_STEPS)]
        usual = statistics.median(times)
        above = [(place, _ms(took)) for place, took in enumerate(times) if took > SPIKE * usual]
        yield f"{name}: median {_ms(usual)}, above {SPIKE} times that: {above}"


def ema() -> Lines:
    """The moving average of one layer, forward and backward: the scan beside the Fourier transform."""
    average = DampedEMA(128, 16, truncation=1024).to(DEVICE)
    x = torch.randn(BATCH, LENGTH, 128, device=DEVICE, requires_grad=True)
    grad = torch.randn_like(x)
    forms: dict[str, Callable[[], torch.Tensor]] = {"Fourier transform": lambda: average(x)}
    if ON_GPU:
        from implementations.kernels.triton.ema import damped_ema

        forms |= {f"scan in {c}": functools.partial(damped_ema, average, x, chunk=c) for c in CHUNKS}
    for name, form in forms.items():
        yield from _said(name, functools.partial(_both_ways, form, grad))


def _both_ways(form: Callable[[], torch.Tensor], grad: torch.Tensor) -> Lines:

    def run() -> None:
        form().backward(grad)  # type: ignore[no-untyped-call]

    seconds_of(run, 3, DEVICE)
    yield _ms(seconds_of(run, COUNT, DEVICE) / COUNT)


def graph() -> Lines:
    """The whole training step as one graph, beside the plain one."""
    for precision in PRECISIONS:
        yield from _said(precision, functools.partial(_graph, precision))


def _graph(precision: str) -> Lines:
    step = step_of("seqboat-fused", precision, mode="graph")
    seconds_of(step, 3, DEVICE)
    plain = seconds_of(step, COUNT, DEVICE) / COUNT
    modes.enter(step)
    replayed = seconds_of(step, COUNT, DEVICE) / COUNT
    yield f"plain {_ms(plain)}, replayed {_ms(replayed)}"


def faults() -> Lines:
    """What a row says of too little shared memory, and of too little memory."""
    yield from _said(
        "enwik8 in tf32", functools.partial(_runs, "seqboat-fused", "tf32", suite="enwik8-8k", batch=1)
    )
    yield from _said("a long transformer", functools.partial(_runs, "transformer", "fp32", length=LONG))


def _runs(name: str, precision: str, **where: Any) -> Lines:
    step_of(name, precision, **where)()
    yield "it ran"


def _said(name: str, part: Callable[[], Lines]) -> Lines:
    """A part's lines under its name; its failure, as a row would tell it, is one of them."""
    try:
        for line in part():
            yield f"{name}: {line}"
    except Exception as error:
        failure = failure_of(error)
        yield f"{name}: {failure.kind}: {failure.reason}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"


PARTS = {part.__name__: part for part in (steps, spikes, ema, graph, faults)}


def main(wanted: list[str]) -> None:
    if ON_GPU:
        print(torch.cuda.get_device_name(DEVICE), torch.__version__, torch.version.cuda, flush=True)
    for name in wanted:
        begin = time.perf_counter()
        for line in _said(name.upper(), PARTS[name]):
            print(line, flush=True)
        print(f"-- {name} took {time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
