"""The `throughput` fixture in test files of its own."""

import contextlib
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from bench.gate import throughput
from bench.measure import servers
from bench.measure.block import TRIES
from bench.measure.compilation import warm_up_deadline
from bench.measure.procedure import Procedure
from bench.records.conditions import Conditions
from bench.workers.messages import Prepare, Time, Timed, Warm

from ..made_up import CPU, results

pytest_plugins = ["pytester"]


@pytest.mark.slow
def test_a_case_is_measured_and_a_failing_one_fails(pytester, write_suite, monkeypatch):
    here = Path(__file__)
    monkeypatch.setenv("PYTHONPATH", f"{here.parents[3]}{os.pathsep}{here.parents[1]}")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    timing = {"deadline": "60s", "min_run": "20ms", "max_rounds": 1}
    suite = write_suite("fault_models:slow", "fault_models:raising", timing=timing)
    pytester.makepyfile(f"""
        def test_speed(throughput):
            throughput({suite!r}, "fault_models:slow", device="cpu", threads=1, blocks=1)

        def test_broken(throughput):
            throughput({suite!r}, "fault_models:raising", device="cpu", threads=1)
    """)
    installed = any(point.name == "seqboat_bench" for point in entry_points(group="pytest11"))
    done = pytester.runpytest_subprocess(*([] if installed else ["-p", "seqboat_bench_pytest"]))
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(["*error: RuntimeError: the third layer is upside down*"])


def test_what_pytest_benchmark_would_not_time_is_skipped_with_the_reason(pytester, monkeypatch):
    """Under xdist it makes one run of each, and three could not be judged."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    pytester.makepyfile("def test_speed(throughput): throughput('ci', 'transformer', device='cpu')")
    installed = any(point.name == "seqboat_bench" for point in entry_points(group="pytest11"))
    done = pytester.runpytest_subprocess("-rs", *([] if installed else ["-p", "seqboat_bench_pytest"]))
    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["*pytest-benchmark is disabled, as it is under pytest-xdist*"])


def test_the_verdict():
    before = [1.0, 1.01, 0.99, 1.0]
    throughput._judge(before, [1.0, 1.01, 0.99, 1.0], 0.10)
    with pytest.raises(pytest.fail.Exception, match="REGRESSED: at least"):
        throughput._judge(before, [1.3, 1.31, 1.29, 1.3], 0.10)
    with pytest.raises(pytest.skip.Exception, match="INCONCLUSIVE: between"):
        throughput._judge(before, [1.0, 1.4, 0.8, 1.1], 0.10)
    with pytest.raises(pytest.skip.Exception, match="bounds need"):
        throughput._judge(before, [1.0, 1.0], 0.10)


class Server:
    """A server, and the worker that it starts."""

    started = 0

    def __init__(self, *words) -> None:
        type(self).started += 1

    def load(self, cases) -> None:
        return

    def wait(self) -> None:
        return

    def start(self, case):
        return contextlib.nullcontext(self)

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        return


def test_a_process_that_compiles_has_the_time_for_it(monkeypatch, tmp_path):
    deadlines = {}

    class Worker(Server):
        def ask(self, question, expected, seconds):
            deadlines[type(question)] = seconds
            return Timed(seconds=1.0, activation=None) if expected is Timed else None

    run = results(["transformer"], [256])
    (solo,) = run.solos.values()
    solo = msgspec.structs.replace(solo, case=msgspec.structs.replace(solo.case, mode="compile"))
    monkeypatch.setattr(servers, "ForkServer", Worker)
    monkeypatch.setattr(throughput, "measure_solo", lambda *words: solo)
    benchmark = SimpleNamespace(extra_info={}, pedantic=lambda run, setup, **_: run(*setup()[0]))
    procedure = Procedure(run.header.suite, CPU)
    throughput.Throughput(benchmark, tmp_path)._measure(solo.case, procedure, 1)
    assert Worker.started == 1
    assert deadlines[Warm] == warm_up_deadline(solo.case, procedure) > procedure.deadline_seconds
    assert deadlines[Prepare] == deadlines[Time] == procedure.deadline_seconds


@pytest.mark.parametrize(("disturbed", "kept"), [([], 1.0), ([True], 1.0), ([True] * 5, 8.0)])
def test_what_other_work_disturbed_is_timed_again(monkeypatch, tmp_path, disturbed, kept):
    """As the runs of `bench run` that it is held against."""
    answers = iter(disturbed)

    class Worker(Server):
        def ask(self, question, expected, seconds):
            if expected is not Timed:
                return None
            stopped = next(answers, False)
            seconds = 8.0 if stopped else 1.0
            return Timed(seconds, None, conditions=Conditions(wall_seconds=seconds, stops=int(stopped)))

    run = results(["transformer"], [256])
    (solo,) = run.solos.values()
    monkeypatch.setattr(servers, "ForkServer", Worker)
    monkeypatch.setattr(throughput, "measure_solo", lambda *words: solo)
    benchmark = SimpleNamespace(extra_info={}, pedantic=lambda run, setup, **_: run(*setup()[0]))
    procedure = Procedure(run.header.suite, CPU)
    found = throughput.Throughput(benchmark, tmp_path)._measure(solo.case, procedure, 1)
    assert found == [kept / procedure.steps(solo)]
    assert len(list(answers)) == max(0, len(disturbed) - TRIES)


def test_each_block_has_a_server_of_its_own(monkeypatch, tmp_path):
    """The case alone and the first block share one."""
    of_runs = []

    class Worker(Server):
        def ask(self, question, expected, seconds):
            if expected is not Timed:
                return None
            of_runs.append(self)
            return Timed(1.0, None)

    def pedantic(run, setup, rounds, iterations):
        for _ in range(rounds):
            run(*setup()[0])

    run = results(["transformer"], [256])
    (solo,) = run.solos.values()
    monkeypatch.setattr(servers, "ForkServer", Worker)
    monkeypatch.setattr(throughput, "measure_solo", lambda *words: solo)
    benchmark = SimpleNamespace(extra_info={}, pedantic=pedantic)
    throughput.Throughput(benchmark, tmp_path)._measure(solo.case, Procedure(run.header.suite, CPU), 3)
    assert (len(set(map(id, of_runs))), Worker.started) == (3, 3)


def test_nothing_heavy_is_imported_before_a_test_asks():
    code = (
        "import sys, seqboat_bench_pytest; print({'torch', 'numpy', 'scipy', 'msgspec'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip() == "set()", done.stderr
