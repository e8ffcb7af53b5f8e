"""A step's time and memory, stage by stage: under torch's profiler, then by counting operators."""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch.profiler import ProfilerActivity

from bench.probes.ceiling import best_seconds, product_ceiling
from bench.probes.clock import seconds_of
from bench.probes.environment import command_line
from bench.probes.operators import Key, OperatorCosts
from bench.probes.surroundings import read_surroundings
from bench.records.environment import Environment
from bench.records.profile import SCHEMA, Ceilings, Cost, Profile, Stage
from bench.steps.stages import PREFIX, StagePath, Stages, named, of_operator
from bench.steps.step import Step
from bench.steps.trace import write_trace
from bench.suites.case import Case
from implementations import registry

WARM_UP_STEPS = 2
TIMELINE_POINTS = 400
BACKWARD = "autograd::engine::evaluate_function"


def profile(case: Case, environment: Environment, steps: int = 3, trace: Path | None = None) -> Profile:
    """Profile one case on the environment's device. Raises UsageError if the trace can't be written."""
    surroundings = read_surroundings()
    torch.set_num_threads(environment.threads)
    step = Step(case, environment.device)
    step.calibrate()
    for _ in range(WARM_UP_STEPS):
        step()
    plain = _step_seconds(step, steps)
    with named(step) as stages:
        named_seconds = statistics.median(_step_seconds(step, steps))
        stages.forget()
        events, profiled_seconds = _under_profiler(step, steps)
        seconds = _seconds_by_stage(events, stages, step.device.type, steps)
        calls = {path: -(-count // steps) for path, count in stages.calls.items()}
        if trace is not None:
            write_trace(step, trace)
    # Before and after, so that a machine that slows down does not look like overhead.
    plain += _step_seconds(step, steps)
    costs, flops_from = _operator_costs(case, step)
    return Profile(
        schema=SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command_line(),
        case=case,
        environment=environment,
        surroundings=surroundings,
        steps=steps,
        plain_seconds=statistics.median(plain),
        named_seconds=named_seconds,
        profiled_seconds=profiled_seconds,
        stages=_stages(seconds, costs, calls),
        timeline=_timeline(costs),
        ceilings=measure_ceilings(step.device, case),
        flops_from=flops_from,
    )


def _step_seconds(step: Step, steps: int) -> list[float]:
    return [seconds_of(step, 1, step.device) for _ in range(steps)]


def _under_profiler(step: Step, steps: int) -> tuple[list[Any], float]:
    activities = [ProfilerActivity.CPU]
    if step.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        if step.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - begin) / steps
    return list(profiler.events() or []), seconds


def _seconds_by_stage(events: Iterable[Any], stages: Stages, device: str, steps: int) -> dict[Key, float]:
    """Own time of every event by the stage that it lies in: of kernels on a GPU, else of operators."""
    found: dict[Key, float] = defaultdict(float)
    for event in events:
        if event.device_type != torch.autograd.DeviceType.CPU:  # type: ignore[attr-defined]
            continue
        own = event.self_cpu_time_total if device == "cpu" else event.self_device_time_total
        if own:
            found[_key_of(event, stages)] += own * 1e-6 / steps
    return found


def _key_of(event: Any, stages: Stages) -> Key:
    """Innermost stage around an event; for one of the backward pass, the stage that made its node."""
    path: StagePath | None = None
    phase = "forward"
    operator = event.name
    while event is not None:
        if event.name.startswith(PREFIX) and path is None:
            path = tuple(event.name.removeprefix(PREFIX).split(" / "))
        elif event.name.startswith(BACKWARD):
            phase = "backward"
            if path is None:
                path = stages.of_node(event.sequence_nr)
        event = event.cpu_parent
    return (of_operator(path or (), operator), phase)


def _operator_costs(case: Case, step: Step) -> tuple[OperatorCosts, str]:
    """Operators of one step; of the plain form if Triton's kernels hide those of the fused one."""
    counted = case.implementation
    reference = registry.find(counted).reference
    if reference is not None and step.backend == "triton":
        counted = reference
        step = Step(msgspec.structs.replace(case, implementation=counted), str(step.device))
        step.calibrate()
        step()
    with named(step) as stages:

        def where(operator: str) -> Key:
            node = torch._C._current_autograd_node()
            if node is None:
                return (of_operator(stages.path, operator), "forward")
            return (of_operator(stages.around(node), operator), "backward")

        costs = OperatorCosts(where, step.live())
        with costs:
            step()
    return costs, counted


def _stages(seconds: dict[Key, float], costs: OperatorCosts, calls: dict[StagePath, int]) -> list[Stage]:
    paths = {path for path, _ in (*seconds, *costs.flops, *costs.bytes)}

    def cost(key: Key) -> Cost:
        return Cost(seconds=seconds.get(key, 0.0), flops=costs.flops[key], bytes=costs.bytes[key])

    return [
        Stage(
            path=path,
            calls=calls.get(path, 0),
            forward=cost((path, "forward")),
            backward=cost((path, "backward")),
            peak_bytes=max(costs.peaks.get((path, phase), 0) for phase in ("forward", "backward")),
        )
        for path in sorted(paths)
    ]


def _timeline(costs: OperatorCosts) -> list[tuple[float, int, str]]:
    """Live bytes over the step, thinned to the highest of every few operators, so that no peak is lost."""
    points = costs.timeline
    size = max(1, len(points) // TIMELINE_POINTS)
    highest = [
        max(range(start, min(start + size, len(points))), key=lambda number: points[number][0])
        for start in range(0, len(points), size)
    ]
    names = [(number, *points[number]) for number in highest]
    return [
        (number / len(points), live, f"{' / '.join(path) or 'step'}, {phase}")
        for number, live, (path, phase) in names
    ]


def measure_ceilings(device: torch.device, case: Case) -> Ceilings:
    """The best of several matrix products in the case's precision, and of several copies."""
    megabytes = 1024 if device.type == "cuda" else 128
    product = product_ceiling(device, case.precision)
    source = torch.ones(megabytes << 18, device=device)
    target = torch.empty_like(source)
    copy = best_seconds(lambda: target.copy_(source), device)
    return Ceilings(
        flops_per_second=product.flops_per_second,
        bytes_per_second=2 * source.nbytes / copy,
        matrix=product.matrix,
        copy=f"{megabytes} MiB",
    )
