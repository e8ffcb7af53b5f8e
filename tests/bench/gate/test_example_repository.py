"""The example repository: built, measured, tested; its test fails when the model has become slower."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

import bench.gate.throughput  # noqa: F401  (a pytest within this process forgets what it imports)
from bench.suites.reading import load

from ..in_process import bench as run_bench
from ..repositories import commit, git

pytest_plugins = ["pytester"]

HOUSE = Path(__file__).parents[3]
EXAMPLE = HOUSE / "examples" / "model-library"


@pytest.fixture
def example(tmp_path) -> Path:
    root = tmp_path / "mymodels"
    shutil.copytree(EXAMPLE, root, ignore=shutil.ignore_patterns("__pycache__"))
    git(root, "init", "--quiet")
    commit(root)
    return root


WORDS = ("-q", "-rs", "-p", "no:cacheprovider")
if not any(point.value == "seqboat_bench_pytest" for point in entry_points(group="pytest11")):
    WORDS += ("-p", "seqboat_bench_pytest")


def test_its_files_are_sound():
    assert load(str(EXAMPLE / "checks" / "ci.yaml")).implementations == ("mymodels.conv:build",)
    workflow = yaml.safe_load((EXAMPLE / ".github" / "workflows" / "performance.yml").read_text())
    assert "bench regress --base" in workflow["jobs"]["gate"]["steps"][-1]["run"]


@pytest.mark.slow
def test_its_own_test_passes_and_finds_a_slowdown(example, pytester, monkeypatch):
    """Within this process, whose templates are kept; at last as a user would."""
    # pytest-benchmark times nothing in a worker of xdist, which the tests here may run in.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HOUSE), "src"]))
    monkeypatch.chdir(example)
    test = (example / "tests" / "test_speed.py").read_text()
    # A model that sleeps is hardly slower on a busy machine.
    source = example / "src" / "mymodels" / "conv.py"
    own = source.read_text()

    def sleeping(seconds: float) -> None:
        source.write_text("import time\n" + own.replace("return self", f"time.sleep({seconds}); return self"))

    sleeping(0.1)
    (example / "tests" / "test_speed.py").write_text(test.replace('"25%"', '"90%", device="cpu", threads=1'))
    suite = example / "checks" / "ci.yaml"
    timing = "timing: {min_blocks: 3, max_blocks: 3, max_rounds: 1, min_run: 20ms, budget: 3m}"
    suite.write_text(re.sub("timing: .*", timing, suite.read_text()))
    machine = ("--device", "cpu", "--threads", "1")
    measured = run_bench("run", "--suite", "checks/ci.yaml", "--out", "tests/baseline.jsonl", *machine)
    assert measured.returncode == 0, measured.stderr
    monkeypatch.setenv("PYTHONPATH", str(HOUSE))
    passed = pytester.runpytest_inprocess(*WORDS)
    passed.assert_outcomes(passed=1)
    sleeping(0.75)
    failed = pytester.runpytest_inprocess(*WORDS)
    failed.assert_outcomes(failed=1)
    assert "REGRESSED: at least" in failed.stdout.str()
    (example / "tests" / "baseline.jsonl").unlink()
    missing = subprocess.run(
        [sys.executable, "-m", "pytest", *WORDS], cwd=example, capture_output=True, text=True, check=False
    )
    assert missing.returncode == 1
    assert "baseline.jsonl: cannot be read" in missing.stdout
    assert "Traceback" not in missing.stdout
