"""The `throughput` fixture in test files of its own."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from bench.gate import throughput

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
            throughput({suite!r}, "fault_models:slow", device="cpu", threads=1)

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


def test_nothing_heavy_is_imported_before_a_test_asks():
    code = (
        "import sys, seqboat_bench_pytest; print({'torch', 'numpy', 'scipy', 'msgspec'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip() == "set()", done.stderr
