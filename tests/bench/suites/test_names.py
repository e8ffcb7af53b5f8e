"""Names of files that are not text, as other locales and archives leave them."""

import json
import os

import numpy as np
import pytest

from bench.errors import UsageError
from bench.suites import reading

from ..in_process import bench

NAME = os.fsdecode(b"caf\xe9")


def test_a_suite_has_the_text_of_its_files_name(tmp_path):
    path = tmp_path / f"{NAME}.yaml"
    path.write_text("extends: ci\n")
    assert reading.load(str(path)).name == "caf\N{REPLACEMENT CHARACTER}"
    listed = bench("list", "suites", path, "--json")
    assert json.loads(listed.stdout)[0]["name"] == "caf\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("key", "value", "option"),
    [("workload", f"tokens:{NAME}.npy", "--workload"), ("checkpoints", {"s4": NAME}, "--checkpoint")],
)
def test_what_no_record_can_hold_is_refused_by_its_option(key, value, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(f"{NAME}.npy", np.arange(10_000) % 7)
    with pytest.raises(UsageError, match=f"^{option}: holds bytes that are not text; rename the file"):
        reading.changed(reading.load("ci"), {key: value})


def test_in_a_file_it_is_refused_by_its_key(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text('extends: ci\nname: "\\ud800"\n')
    with pytest.raises(UsageError, match=f"^{path}: `name`: holds bytes that are not text"):
        reading.load(str(path))


@pytest.mark.parametrize("command", ["run", "train"])
def test_a_command_refuses_it_in_one_line(command, tmp_path):
    np.save(tmp_path / f"{NAME}.npy", np.arange(10_000) % 7)
    words = ("--suite", "text-small", "--workload", f"tokens:{NAME}.npy", "--out", "runs")
    done = bench(command, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "bench: --workload: holds bytes that are not text; rename the file\n"
    assert not (tmp_path / "runs").exists()
