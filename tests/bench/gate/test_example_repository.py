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

from bench.suites.reading import load

from ..repositories import commit, git

HOUSE = Path(__file__).parents[3]
EXAMPLE = HOUSE / "examples" / "model-library"


@pytest.fixture
def example(tmp_path) -> Path:
    root = tmp_path / "mymodels"
    shutil.copytree(EXAMPLE, root, ignore=shutil.ignore_patterns("__pycache__"))
    git(root, "init", "--quiet")
    commit(root)
    return root


def run(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # pytest-benchmark times nothing in a worker of xdist, which the tests here may run in.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"PYTHONPATH": str(HOUSE)},
    )


def test_its_files_are_sound():
    assert load(str(EXAMPLE / "checks" / "ci.yaml")).implementations == ("mymodels.conv:build",)
    workflow = yaml.safe_load((EXAMPLE / ".github" / "workflows" / "performance.yml").read_text())
    assert "bench regress --base" in workflow["jobs"]["gate"]["steps"][-1]["run"]


@pytest.mark.slow
def test_its_own_test_passes_and_finds_a_slowdown(example):
    machine = ("--device", "cpu", "--threads", "1")
    test = (example / "tests" / "test_speed.py").read_text()
    # A model that sleeps is hardly slower on a busy machine.
    source = example / "src" / "mymodels" / "conv.py"
    own = source.read_text()

    def sleeping(seconds: float) -> None:
        source.write_text("import time\n" + own.replace("return self", f"time.sleep({seconds}); return self"))

    sleeping(0.1)
    asked = '"90%", device="cpu", threads=1, blocks=3'
    (example / "tests" / "test_speed.py").write_text(test.replace('"25%"', asked))
    suite = example / "checks" / "ci.yaml"
    timing = "timing: {min_blocks: 3, max_blocks: 3, max_rounds: 1, min_run: 20ms, budget: 3m}"
    suite.write_text(re.sub("timing: .*", timing, suite.read_text()))
    baseline = ("bench.cli", "run", "--suite", "checks/ci.yaml", "--out", "tests/baseline.jsonl", *machine)
    measured = subprocess.run(
        [sys.executable, "-m", *baseline],
        cwd=example,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HOUSE), "src"])},
    )
    assert measured.returncode == 0, measured.stderr
    installed = any(point.value == "seqboat_bench_pytest" for point in entry_points(group="pytest11"))
    words = (
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        *(() if installed else ("-p", "seqboat_bench_pytest")),
    )
    passed = run(example, *words)
    assert passed.returncode == 0, passed.stdout
    sleeping(0.8)
    failed = run(example, *words)
    assert failed.returncode == 1, failed.stdout
    assert "REGRESSED: at least" in failed.stdout
    (example / "tests" / "baseline.jsonl").unlink()
    missing = run(example, *words)
    assert missing.returncode == 1
    assert "baseline.jsonl: cannot be read" in missing.stdout
    assert "Traceback" not in missing.stdout
