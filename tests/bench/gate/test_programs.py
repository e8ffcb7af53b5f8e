"""The repository that other tools' programs are tried on; the programs themselves are not run here."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import workloads
from bench.gate import programs
from implementations import registry


@pytest.fixture
def trial(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "_steps", lambda folder, model: 10)
    monkeypatch.setattr(programs, "_run", without_asv)
    return programs.repository(tmp_path, "seqboat-fused", 0.25, 60.0)


def without_asv(command, folder, allowed=(0,)):
    if command[0] == "asv":
        return 0, ""
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True)
    return done.returncode, done.stdout


def share_of(path: Path) -> list[float]:
    """Shares by which a file's model is slowed down."""
    spec = importlib.util.spec_from_file_location("tried_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shares = []
    module.slowed = lambda model, share: shares.append(share)
    original = registry.find("seqboat-fused")
    module.build(workloads.load("text").task(64), original.hyperparameters("text", "matched"))
    return shares


def test_one_revision_differs_by_a_comment_and_one_by_a_slowdown(trial):
    texts = {name: (trial.of(name) / "model.py").read_text() for name in programs.REVISIONS}
    assert len(set(texts.values())) == 3
    assert {name: share_of(trial.of(name) / "model.py") for name in texts} == {
        "base": [0.0],
        "same": [0.0],
        "slower": [0.25],
    }


def test_every_tool_gets_the_same_model(trial):
    for name in programs.REVISIONS:
        committed = subprocess.run(
            ["git", "show", f"{name}:model.py"], cwd=trial.repository, text=True, capture_output=True
        )
        assert committed.stdout == (trial.of(name) / "model.py").read_text()


def test_the_table_counts_alarms_by_tool():
    found = {"a tool": {"same": [True, False], "slower": [True, True]}}
    last = programs.table(found, {"a tool": 61.0}, 0.05).splitlines()[-1]
    assert [cell.strip() for cell in last.strip("|").split("|")] == ["a tool", "1 of 2", "2 of 2", "1m 01s"]


def test_a_missing_program_is_named_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["programs"])
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "hyperfine" else f"/usr/bin/{name}")
    with pytest.raises(SystemExit) as ended:
        programs.main()
    assert ended.value.code == 2
    assert "hyperfine: not installed, or not on the PATH" in capsys.readouterr().err
