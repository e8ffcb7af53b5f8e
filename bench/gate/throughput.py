"""One case of a suite inside pytest-benchmark: what the `throughput` fixture gives a test."""

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.errors import UsageError
from bench.measure.procedure import Procedure
from bench.measure.solo import measure_solo
from bench.probes.environment import probe_environment
from bench.records.reading import Results, read
from bench.records.run import Environment
from bench.stats.intervals import MIN_BLOCKS, unpaired_ratio
from bench.stats.ratios import block_step_seconds
from bench.suites import reading as suites
from bench.suites.case import Case
from bench.text.units import parse_percentage
from bench.views.tables.rows import machine_of
from bench.workers.forkserver import ForkServer
from bench.workers.handle import WorkerFailed, WorkerProcess
from bench.workers.messages import Prepared, Time, Timed, Warmed

TWO_SIDED = 0.98
"""Of an interval whose ends are one-sided 99% bounds, as the gate has them."""


class Throughput:
    """Measures when called; the test fails where the case does, or where it has become slower."""

    def __init__(self, benchmark: Any) -> None:
        self.benchmark = benchmark

    def __call__(
        self,
        suite: str,
        implementation: str,
        *,
        tolerance: float | str = 0.05,
        against: str | Path | None = None,
        length: int | None = None,
        device: str = "auto",
        threads: int | None = None,
        blocks: int = MIN_BLOCKS,
    ) -> None:
        """A round of pytest-benchmark is one timed run of a fresh, warmed process of the case.

        against: a result file of `bench run` with the same case of this machine. The test fails where the
        step is slower than there by more than the tolerance with 99% confidence, and is skipped as
        INCONCLUSIVE where it can't be told; the two are not interleaved (`bench regress` does that).
        length: one of the suite's; its first by default. Raises UsageError.
        """
        overrides = {"implementations": [implementation], "baseline": implementation}
        loaded = suites.load(suite, overrides)
        environment = probe_environment(device, threads)
        plan = Procedure(loaded, environment)
        wanted = length or loaded.lengths[0]
        case = next((case for case in loaded.cases(plan.kind) if case.length == wanted), None)
        if case is None:
            raise UsageError(f"{suite} has no length {wanted}: {', '.join(map(str, loaded.lengths))}")
        limit = parse_percentage(tolerance)
        before = None if against is None else _stored(read(Path(against)), case, environment)
        seconds = self._measure(case, plan, blocks)
        if before is not None:
            _judge(before, seconds, limit)

    def _measure(self, case: Case, plan: Procedure, blocks: int) -> list[float]:
        """Seconds a step, a fresh process each."""
        with ForkServer(plan.threads, plan.sources) as server:
            solo = measure_solo(case, plan, server)
        if solo.status != "ok":
            pytest.fail(f"{case.id}: {solo.status}: {solo.reason}", pytrace=False)
        found: list[float] = []
        with ExitStack() as last:

            def fresh() -> tuple[tuple[WorkerProcess], dict[str, Any]]:
                last.close()
                worker = last.enter_context(
                    last.enter_context(ForkServer(plan.threads, plan.sources)).start(case)
                )
                worker.ask(plan.prepare(case), Prepared, plan.deadline_seconds)
                worker.ask(plan.block_warm_up(solo), Warmed, plan.deadline_seconds)
                return (worker,), {}

            def run(worker: WorkerProcess) -> None:
                timed = worker.ask(Time(plan.steps(solo)), Timed, plan.deadline_seconds)
                found.append(timed.seconds / plan.steps(solo))

            try:
                self.benchmark.pedantic(run, setup=fresh, rounds=blocks, iterations=1)
            except WorkerFailed as failure:
                pytest.fail(f"{case.id}: {failure.status}: {failure.reason}", pytrace=False)
        self.benchmark.extra_info |= {
            "case": case.id,
            "steps": plan.steps(solo),
            "step_seconds": found,
            "memory": msgspec.to_builtins(solo.memory),
        }
        return found


def _stored(results: Results, case: Case, environment: Environment) -> list[float]:
    """Seconds a step by block. Raises UsageError where these were no blocks of this case on this machine."""
    then = results.header.environment
    if machine_of(then) != machine_of(environment):
        raise UsageError(f"{results.path}: comes from another machine ({machine_of(then)})")
    seconds = block_step_seconds(results.samples, case.id)
    if len(seconds) < MIN_BLOCKS:
        raise UsageError(f"{results.path}: has {len(seconds)} blocks of {case.id}, needs {MIN_BLOCKS}")
    return seconds


def _judge(before: list[float], now: list[float], tolerance: float) -> None:
    """Fail, skip or pass by the slowdown's one-sided bounds."""
    speed = unpaired_ratio([math.log(s) for s in before], [math.log(s) for s in now], TWO_SIDED)
    if speed.low is None or speed.high is None:
        pytest.skip(f"INCONCLUSIVE: bounds need {MIN_BLOCKS} blocks")
    low, high = 1 / speed.high - 1, 1 / speed.low - 1
    if low > tolerance:
        pytest.fail(f"REGRESSED: at least {low:.1%} slower, more than {tolerance:.1%}", pytrace=False)
    if high >= tolerance:
        pytest.skip(f"INCONCLUSIVE: between {low:+.1%} and {high:+.1%} slower, tolerance {tolerance:.1%}")
