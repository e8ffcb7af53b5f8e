"""The gate over real revisions of a small repository: what it finds, what it leaves alone, how it ends."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from bench.measure.pairing import Cores
from bench.records.reading import read

from ..in_process import bench

HOUSE = Path(__file__).parents[3]

MODEL = """
import time
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self, task):
        super().__init__()
        self.embedding = nn.Embedding(task.vocabulary, 8)
        self.out = nn.Linear(8, task.classes)

    def forward(self, inputs, lengths=None):
        {body}
        return self.out(self.embedding(inputs).mean(dim=1))

def build(task, hyperparameters):
    return Tiny(task)
"""

PAIRINGS = ["turns", "duet"] if Cores.of_this_process().half else ["turns"]
SLEEP = "time.sleep(0.020)"


def git(repository: Path, *words: str) -> str:
    identity = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a"}
    return subprocess.run(
        ["git", "-C", str(repository), *words],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | identity | {"GIT_COMMITTER_EMAIL": "a@b"},
    ).stdout.strip()


class Repository:
    """A user's repository with one model of twenty milliseconds; or this very project's, with the same."""

    def __init__(self, root: Path, own: bool = False) -> None:
        self.root = root
        self.package = "implementations" if own else "mymodels"
        if own:
            ours = HOUSE / "implementations"
            shutil.copytree(ours, root / self.package, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (root / self.package).mkdir()
        self.write(SLEEP)
        git(root, "init", "--quiet")
        (root / ".git" / "info" / "exclude").write_text("run.jsonl\nnaps.yaml\n")
        self.commit()
        suite = {
            "description": "naps",
            "workload": "text",
            "lengths": [32],
            "implementations": [f"{self.package}.napping:build"],
            "baseline": f"{self.package}.napping:build",
            "timing": {"deadline": "60s", "min_run": "20ms"},
        }
        (root / "naps.yaml").write_text(yaml.safe_dump(suite))

    def write(self, body: str) -> None:
        (self.root / self.package / "napping.py").write_text(MODEL.format(body=body))

    def commit(self) -> None:
        git(self.root, "add", self.package)
        git(self.root, "commit", "--quiet", "-m", "work")

    def state(self) -> tuple[str, str, str]:
        """All that the user would notice if it changed."""
        files = sorted(f"{path}: {path.read_text()}" for path in self.root.glob("*/napping.py"))
        return (
            git(self.root, "status", "--porcelain"),
            git(self.root, "log", "--all", "--oneline"),
            str(files),
        )

    def regress(self, *words: str) -> subprocess.CompletedProcess[str]:
        options = ("--device", "cpu", "--threads", "1", "--out", "run.jsonl")
        return bench("regress", "--suite", "naps.yaml", *options, "--base", *words, cwd=self.root)


@pytest.fixture
def repository(tmp_path) -> Repository:
    return Repository(tmp_path)


@pytest.mark.slow
def test_a_planted_slowdown_is_found_and_the_tree_untouched(repository):
    repository.write(SLEEP + "; " + SLEEP)
    before = repository.state()
    words = ("--json", "--blocks", "3", "--tolerance", "40%", "--pairing", PAIRINGS[-1])
    done = repository.regress("HEAD", *words)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["pairing"] == PAIRINGS[-1]
    assert report["verdict"] == "REGRESSED"
    assert report["control"]["verdict"] == "PASSED"
    case = report["cases"][0]
    assert 1.4 < case["slowdown_low"] < case["slowdown"] < 2.5
    assert case["changes"] == []
    assert repository.state() == before
    assert git(repository.root, "worktree", "list").count("\n") == 0
    results = read(repository.root / "run.jsonl")
    assert results.header.revisions["base"] == git(repository.root, "rev-parse", "HEAD")
    assert {solo.case.revision for solo in results.solos.values()} == {"base", "head"}
    assert {sample.case_id.rpartition("@")[2] for sample in results.samples} == {"base", "head", "control"}


@pytest.mark.slow
@pytest.mark.parametrize("pairing", PAIRINGS)
def test_the_same_code_passes(repository, pairing):
    words = ("--blocks", "3", "--tolerance", "40%", "--pairing", pairing)
    done = repository.regress("HEAD", "--head", "HEAD", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    assert {"turns": "timed in turns", "duet": "timed side by side, 1 thread each"}[pairing] in done.stdout
    assert read(repository.root / "run.jsonl").header.environment.pairing == pairing
    assert "unchanged" in done.stdout


def test_what_needs_no_clock_is_told_without_one(tmp_path):
    """In this project's own repository, whose `implementations` take the place of the harness's."""
    repository = Repository(tmp_path, own=True)
    repository.write(
        "kept = torch.zeros(1 << 16)\n"
        "        inputs = (inputs @ torch.ones(inputs.shape[1], 64, dtype=inputs.dtype))[:, :32] * 0 + 1"
    )
    done = repository.regress("HEAD", "--exact", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["verdict"]) == (1, "REGRESSED")
    changes = {change["figure"]: change for change in report["cases"][0]["changes"]}
    assert set(changes) == {"flops", "tensor_bytes", "operators"}
    assert all(change["head"] > change["base"] for change in changes.values())
    assert changes["flops"]["head"] - changes["flops"]["base"] == 2 * 32 * 64
    assert read(repository.root / "run.jsonl").samples == []


@pytest.mark.slow
def test_a_gate_that_measured_nothing_has_not_passed(repository):
    repository.write("raise RuntimeError('upside down')")
    repository.commit()
    repository.write("pass")
    done = repository.regress("HEAD", "--exact")
    assert done.returncode == 2
    assert "nothing could be compared" in done.stderr
    assert "does not run on base" in done.stderr


@pytest.mark.slow
def test_a_budget_for_no_block_is_no_pass(repository):
    done = repository.regress("HEAD", "--budget", "1s")
    assert done.returncode == 2
    assert "nothing could be compared" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-such-revision"], "no-such-revision: this repository has no such revision"),
        (["--output=/tmp/x"], "--output=/tmp/x: this repository has no such revision"),
        (["HEAD", "--margin", "5%"], "the tolerance 3% lies below --margin 5%"),
        (["HEAD", "--blocks", "2"], "bounds need at least 3 blocks"),
        (["HEAD", "--tolerance", "lots"], "is not a percentage"),
        (["HEAD", "--budget", "soon"], "soon"),
        (["HEAD", "--pairing", "trio"], "--pairing trio: choose auto, turns, duet"),
    ],
)
def test_bad_usage_is_one_line(repository, words, message):
    done = repository.regress(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (repository.root / "run.jsonl").exists()


def test_outside_of_a_repository(tmp_path):
    done = bench("regress", "--base", "HEAD", cwd=tmp_path)
    assert done.returncode == 2
    assert "not a git repository" in done.stderr
