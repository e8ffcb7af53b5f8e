"""The `throughput` fixture: one case of a suite inside pytest-benchmark."""

import math
import sys
import sysconfig
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.errors import UsageError
from bench.measure.block import TRIES
from bench.measure.compilation import warm_up
from bench.measure.procedure import Procedure
from bench.measure.servers import Servers
from bench.measure.solo import measure_solo
from bench.probes.environment import probe_environment
from bench.records.environment import Environment
from bench.records.reading import Results, read
from bench.stats.disturbance import disturbance
from bench.stats.intervals import MIN_BLOCKS, unpaired_ratio
from bench.stats.ratios import block_step_seconds
from bench.suites import reading as suites
from bench.suites.case import Case
from bench.suites.files import ENDINGS
from bench.text.units import parse_percentage
from bench.workers.handle import WorkerFailed, WorkerProcess
from bench.workers.messages import Prepared, Time, Timed
from bench.workers.source import CodeSource

TWO_SIDED = 0.98
"""Confidence of an interval whose ends are one-sided 99% bounds, like the gate's."""


class Throughput:
    """Measures when called; the test fails if the case does, or if it has become slower.

    folder: folder of the test's file, in which suite and baseline are looked for after the current folder.
    """

    def __init__(self, benchmark: Any, folder: Path) -> None:
        self.benchmark = benchmark
        self.folder = folder

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
        """Measure a case; a round of pytest-benchmark is one timed run of a fresh, warmed process, which is
        repeated twice at most if other work disturbed it.

        suite: a name, or a file. implementation: a name, or `package.module:function` of whatever the test
        can import. against: a result file of `bench run` with the same case of this machine. The test fails
        if the step is slower than there by more than the tolerance with 99% confidence, and is skipped as
        INCONCLUSIVE if that can't be told; the two are not interleaved (`bench regress` does that).
        length: one of the suite's; its first by default. What can't be measured fails in one line.
        """
        if self.benchmark.disabled:
            pytest.skip(
                "throughput: pytest-benchmark is disabled, as it is under pytest-xdist and by "
                "--benchmark-disable, and nothing is timed; run tests of speed without -n"
            )
        try:
            self._run(suite, implementation, tolerance, against, length, device, threads, blocks)
        except UsageError as error:
            pytest.fail(str(error), pytrace=False)

    def _run(
        self,
        suite: str,
        implementation: str,
        tolerance: float | str,
        against: str | Path | None,
        length: int | None,
        device: str,
        threads: int | None,
        blocks: int,
    ) -> None:
        overrides = {"implementations": [implementation], "baseline": implementation}
        loaded = suites.load(self._place(suite) if suite.endswith(ENDINGS) else suite, overrides)
        environment = probe_environment(device, threads or loaded.most_threads)
        procedure = Procedure(loaded, environment, sources={"": CodeSource(_importable())})
        wanted = length or loaded.lengths[0]
        case = next((case for case in loaded.cases(procedure.kind) if case.length == wanted), None)
        if case is None:
            raise UsageError(f"{suite} has no length {wanted}: {', '.join(map(str, loaded.lengths))}")
        try:
            limit = parse_percentage(tolerance)
        except ValueError as error:
            raise UsageError(f"tolerance: {error}") from None
        before = None if against is None else _stored(read(Path(self._place(against))), case, environment)
        seconds = self._measure(case, procedure, blocks)
        if before is not None:
            _judge(before, seconds, limit)

    def _place(self, name: str | Path) -> str:
        """A file from the current folder, or else beside the test."""
        beside = self.folder / name
        return str(beside if not Path(name).exists() and beside.exists() else name)

    def _measure(self, case: Case, procedure: Procedure, blocks: int) -> list[float]:
        """Seconds per step, each of a fresh process."""
        found: list[float] = []
        # No block is sure to come: a case that fails alone is not timed.
        with Servers(procedure, [case], blocks=0) as servers, ExitStack() as last:
            solo = measure_solo(case, procedure, servers.alone())
            if solo.status != "ok":
                pytest.fail(f"{case.id}: {solo.status}: {solo.reason}", pytrace=False)

            def fresh() -> tuple[tuple[WorkerProcess], dict[str, Any]]:
                last.close()
                worker = last.enter_context(servers.of_a_block().start(case))
                worker.ask(procedure.prepare(case), Prepared, procedure.deadline_seconds)
                warm_up(worker, procedure, solo)
                return (worker,), {}

            def run(worker: WorkerProcess) -> None:
                question, deadline = Time(procedure.steps(solo)), procedure.run_deadline_seconds(solo)
                # As in a block: what other work disturbed is timed again, so that it is not called slower.
                for _ in range(TRIES):
                    timed = worker.ask(question, Timed, deadline)
                    if disturbance(timed.conditions, timed.throttled) is None:
                        break
                found.append(timed.seconds / procedure.steps(solo))

            try:
                self.benchmark.pedantic(run, setup=fresh, rounds=blocks, iterations=1)
            except WorkerFailed as failure:
                pytest.fail(f"{case.id}: {failure.status}: {failure.reason}", pytrace=False)
        self.benchmark.extra_info |= {
            "case": case.id,
            "steps": procedure.steps(solo),
            "step_seconds": found,
            "memory": msgspec.to_builtins(solo.memory),
        }
        return found


def _importable() -> tuple[Path, ...]:
    """Folders in which this process looks for modules, without installed packages: a worker gets the same."""
    library = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    given = [Path.cwd(), *(Path(path) for path in sys.path if path and path not in library)]
    own = (path for path in given if not {"site-packages", "dist-packages", "lib-dynload"} & set(path.parts))
    return tuple(dict.fromkeys(path for path in own if path.is_dir()))


def _stored(results: Results, case: Case, environment: Environment) -> list[float]:
    """Seconds per step by block. Raises UsageError if there are too few of this case on this machine."""
    then = results.header.environment
    if then.machine != environment.machine:
        raise UsageError(
            f"{results.path}: comes from another machine ({then.words}; this is {environment.words}); "
            "measure it anew here with bench run"
        )
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
