"""What a worker looks at beside the clock: NaN, threads, leaks, and whether something else held it up."""

import contextlib
import os
import subprocess
import sys
import time

import msgspec
import numpy as np
import psutil
import pytest

from bench.measure.block import Block
from bench.measure.procedure import Procedure
from bench.records.run import Sample
from bench.records.solo import Solo
from bench.stats.allocation import Design
from bench.stats.disturbance import disturbance
from bench.suites import reading as suites
from bench.workers.forkserver import ForkServer
from bench.workers.handle import WorkerFailed
from bench.workers.messages import (
    KeepTo,
    KeptTo,
    MeasureMemory,
    MemoryMeasured,
    Prepared,
    Time,
    Timed,
    Warm,
    Warmed,
)

from ..made_up import CPU

SUITE = suites.load("ci")
CASE = msgspec.structs.replace(SUITE.cases("cpu")[0], activation=None, length=64)
PLAN = Procedure(SUITE, msgspec.structs.replace(CPU, threads=1))


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.path.dirname(os.path.dirname(__file__)))
        patch.setenv("FAULT_MARKER", os.path.join("/tmp", f"bench-{os.getpid()}"))
        with ForkServer(PLAN.threads, PLAN.sources) as server:
            yield server


@contextlib.contextmanager
def begun(server, model, steps=3):
    """A worker with a warm model."""
    with server.start(msgspec.structs.replace(CASE, implementation=f"fault_models:{model}")) as worker:
        worker.ask(PLAN.prepare(worker.case), Prepared, 60)
        worker.ask(Warm(steps, steps, 1.0), Warmed, 60)
        yield worker


def test_nan_in_a_gradient_is_found_though_the_loss_is_finite(server):
    with pytest.raises(
        WorkerFailed, match=r"at step 1 the gradient of embedding\.weight is not fin"
    ) as found:
        begun(server, "nan_gradients").__enter__()
    assert found.value.status == "nan"


@pytest.mark.parametrize(("steps", "until"), [(6, 6), (3, 8)])
def test_nan_of_a_later_step_is_found(server, steps, until):
    """In the warm-up, or in the timed run that it first shows in."""
    with (
        pytest.raises(WorkerFailed, match=f"at step {until} the loss is not finite") as found,
        begun(server, "nan_from_the_fifth_step", steps) as worker,
    ):
        worker.ask(Time(5), Timed, 60)
    assert found.value.status == "nan"


def test_a_leak_is_the_growth_of_a_step(server):
    grown = {}
    for model in ("leaking", "tiny"):
        with begun(server, model) as worker:
            grown[model] = worker.ask(MeasureMemory(), MemoryMeasured, 60).growth_bytes
    assert grown == {"leaking": 4 << 20, "tiny": 0}


@pytest.mark.parametrize(
    ("model", "least"), [("sparse", 20 * 100_000), ("jagged", 12 * 1038 + 2 * 64 * 4 * 4)]
)
def test_sparse_and_jagged_tensors_count(server, model, least):
    with begun(server, model) as worker:
        figures = worker.ask(MeasureMemory(), MemoryMeasured, 60).figures
    assert least < figures[0].bytes < least + (1 << 20)


def test_threads_are_those_of_the_run_whatever_a_model_sets(server):
    with begun(server, "sets_threads_when_built") as worker:
        worker._stderr.seek(0)
        assert worker._stderr.read().decode().split("\n")[0] == "threads: 1"
    with pytest.raises(WorkerFailed, match="the model set torch's threads to 3; the run has 1"):
        begun(server, "sets_threads_in_a_step").__enter__()


def test_a_worker_that_is_stopped_takes_no_time(server):
    with begun(server, "busy_in_the_background") as worker:
        process = psutil.Process(worker.pid)

        def used():
            before = sum(process.cpu_times()[:2])
            time.sleep(0.3)
            return sum(process.cpu_times()[:2]) - before

        assert used() > 0.02
        worker.stop()
        assert used() <= 0.02  # a tick or two until it has heard of it
        with worker.awake():
            assert worker.ask(Time(2), Timed, 60).seconds > 0
        assert used() <= 0.02


def test_between_the_runs_of_a_block_every_worker_is_stopped(server):
    cases = [
        msgspec.structs.replace(CASE, implementation=f"fault_models:{name}") for name in ("tiny", "slow")
    ]
    solos = [Solo(case=case, status="ok", step_seconds=0.02) for case in cases]
    block = Block(PLAN, 0, 0, solos, Design(1), np.random.default_rng(0))
    with contextlib.closing(block.run()) as records:
        for record in records:
            assert isinstance(record, Sample), record
            for worker in block.workers.values():
                wait_until_stopped(worker.pid)


def test_a_worker_goes_on_after_its_run_until_it_is_asked(server):
    with begun(server, "tiny") as worker:
        process = psutil.Process(worker.pid)
        moment = time.monotonic() + 0.05
        timed = worker.ask(Time(2, moment, go_on=True), Timed, 60)
        assert timed.began >= moment
        before = sum(process.cpu_times()[:2])
        time.sleep(0.3)
        assert sum(process.cpu_times()[:2]) - before > 0.02
        worker.ask(KeepTo(sorted(process.cpu_affinity())), KeptTo, 60)
        rested = sum(process.cpu_times()[:2])
        time.sleep(0.3)
        assert sum(process.cpu_times()[:2]) - rested <= 0.02


def wait_until_stopped(pid):
    end = time.monotonic() + 5
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < end, "still runs"
        time.sleep(0.01)


def test_a_process_that_left_its_session_ends_with_its_worker(server):
    with begun(server, "leaves_a_process"):
        with open(f"/tmp/bench-{os.getpid()}", encoding="ascii") as file:
            stray = int(file.read())
        os.unlink(file.name)
        assert psutil.pid_exists(stray)
    assert not psutil.pid_exists(stray)


def test_a_model_that_sleeps_gives_its_processor_away_itself(server):
    """The rule is held against such figures in tests/bench/stats/test_disturbance.py, where no load is."""
    with begun(server, "slow") as worker:
        runs = [worker.ask(Time(10), Timed, 60) for _ in range(3)]
        assert min(run.waited_seconds for run in runs) > 0.15
        for run in runs:
            assert run.conditions.stops == 0
            assert run.conditions.processor_seconds < run.conditions.wall_seconds - 0.15
            assert run.step_deviation < run.seconds


def test_a_run_that_was_stopped_is_disturbed_and_those_around_it_are_not(server):
    with begun(server, "stopped_in_a_step") as worker:
        before = worker.ask(Time(1), Timed, 60)
        stopped = worker.ask(Time(1), Timed, 60)
        assert before.conditions.stops == 0
        assert disturbance(stopped.conditions) == "its process was stopped and continued"
        with begun(server, "tiny") as other:
            other.stop()
            with other.awake() as resumed:
                assert resumed.ask(Time(1), Timed, 60).conditions.stops == 0, "before it was asked"


def test_a_busy_loop_on_its_processor_disturbs_a_run(server):
    processor = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{processor}]); print(flush=True)\nwhile True: pass"
    with begun(server, "spinning") as worker:
        os.sched_setaffinity(worker.pid, [processor])
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as busy:
            try:
                busy.stdout.readline()
                timed = worker.ask(Time(10), Timed, 60)
            finally:
                busy.kill()
    assert "waited for a processor that other work had" in disturbance(timed.conditions)
    assert timed.conditions.processor_seconds > 0.19, "as much as it needs alone"
