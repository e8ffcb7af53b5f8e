"""Whole runs of tiny models: what is measured, what survives a fault, and what a resumed run goes on with."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.commands.console import print_tracebacks
from bench.errors import UsageError
from bench.measure.request import Request
from bench.measure.session import run
from bench.records.reading import read
from bench.records.run import Sample
from bench.views.tables.table import build_table

from ..in_process import bench, ctrl_c

pytestmark = pytest.mark.usefixtures("plug_ins")


WHOLE = {"min_blocks": 3, "max_blocks": 3, "max_rounds": 2, "min_run": "50ms", "target": "99%"}
"""A run of as many blocks as an interval needs, with short warm-ups."""


def run_suite(suite: str, out: Path, **options):
    options = {"device": "cpu", "threads": 1, **options}
    return run(Request(suite=suite, out=out, **options))


def test_a_whole_run(write_suite, tmp_path):
    suite = write_suite("fault_models:tiny", "fault_models:slow", quick=WHOLE)
    outcome = run_suite(suite, tmp_path / "run.jsonl", quick=True)
    results = outcome.results
    assert outcome.complete
    assert not outcome.interrupted
    assert results.end.reason in ("precise", "blocks")  # A machine that is busy may not be precise by then.
    tiny, slow = build_table(results).rows
    assert tiny.speed_ratio == 1.0
    assert slow.speed_low < slow.speed_ratio < slow.speed_high < 1.0
    assert slow.step_seconds > 0.02
    assert slow.peak_memory_bytes > 0
    assert slow.parameters == 257 * 4 + 4 * 2 + 2
    assert slow.tokens_per_second == pytest.approx(32 / slow.step_seconds)
    assert slow.activation_rate is None
    assert_palindromes(results.samples)


def assert_palindromes(samples: list[Sample]) -> None:
    """Every round visits both models in some order, and again in its reverse."""
    rounds: dict[tuple[int, int], list[Sample]] = {}
    for sample in samples:
        rounds.setdefault((sample.block, sample.round), []).append(sample)
    assert len({block for block, _ in rounds}) == 3
    for visits in rounds.values():
        # A disturbed run is repeated where it was.
        order = list({sample.position: sample.case_id for sample in visits}.items())
        order = [case for _, case in sorted(order)]
        assert order == order[::-1]
        assert len(set(order)) == 2


FAULTS = {
    "raising": ("error", "RuntimeError: the third layer is upside down"),
    "killed": ("oom", "killed"),
    "segfaulting": ("crashed", "SIGSEGV"),
    "exiting": ("crashed", "exit code 7: lost the licence server"),
    "greedy": ("oom", "can't allocate memory"),
    "nan": ("nan", "not finite"),
    "wants_a_key": ("error", "missing"),
    "hanging": ("timeout", "no answer within"),
}


def test_every_fault_costs_its_own_row_only(write_suite, tmp_path):
    suite = write_suite(
        "fault_models:tiny",
        *(f"fault_models:{model}" for model in FAULTS),
        "fault_models:noisy",
        quick={"min_blocks": 1, "max_blocks": 1, "max_rounds": 1, "deadline": "10s"},
    )
    outcome = run_suite(suite, tmp_path / "run.jsonl", quick=True)
    rows = {row.model.partition(":")[2]: row for row in build_table(outcome.results).rows}
    assert not outcome.complete
    assert (rows["tiny"].status, rows["noisy"].status) == ("ok", "ok")
    assert rows["noisy"].speed_ratio > 0
    for model, (status, words) in FAULTS.items():
        row = rows[model]
        assert (row.status, row.speed_ratio, row.step_seconds, row.memory_ratio) == (status, None, None, None)
        assert words in row.reason
        assert "\n" not in row.reason


def test_a_worker_that_dies_while_timed_loses_only_its_row(write_suite, tmp_path):
    suite = write_suite("fault_models:tiny", "fault_models:slow", "fault_models:dies_in_a_block", quick=WHOLE)
    outcome = run_suite(suite, tmp_path / "run.jsonl", quick=True)
    tiny, slow, dead = build_table(outcome.results).rows
    assert (tiny.status, slow.status, dead.status) == ("ok", "ok", "oom")
    assert slow.speed_low is not None
    assert dead.speed_ratio is None
    assert "in block 1" in dead.reason


def test_a_model_that_raises_while_timed_keeps_its_traceback(write_suite, tmp_path, capsys):
    suite = write_suite("fault_models:tiny", "fault_models:raises_in_a_block", quick=WHOLE)
    outcome = run_suite(suite, tmp_path / "run.jsonl", quick=True)
    (lost,) = outcome.results.lost.values()
    assert "Traceback" in lost.traceback
    assert "here it ends" in lost.printed
    print_tracebacks(outcome.runs)
    told = capsys.readouterr().err
    assert "upside down" in told
    assert "here it ends" in told


def test_every_model_failing_is_reported(write_suite, tmp_path):
    outcome = run_suite(write_suite("fault_models:raising"), tmp_path / "run.jsonl", quick=True)
    assert outcome.results.end.reason == "failed"
    assert outcome.results.samples == []


def test_an_interrupted_run_keeps_what_it_has_and_resumes(write_suite, tmp_path):
    """Of models that sleep, so that its seconds are not the processor's."""
    endless = WHOLE | {"max_blocks": 50, "target": "0.01%"}
    suite = write_suite("fault_models:steady", "fault_models:slow", quick=endless)
    out = tmp_path / "run.jsonl"
    with ctrl_c(lambda: out.exists() and b'"sample"' in out.read_bytes()):
        done = bench("run", "--suite", suite, "--quick", "--device", "cpu", "--threads", "1", "--out", out)
    assert done.returncode == 130
    assert "steady" in done.stdout
    assert f"--resume {out}" in done.stderr
    assert "Traceback" not in done.stderr
    before = read(out)
    assert before.end.reason == "interrupted"

    resumed = run_suite(suite, tmp_path / "other.jsonl", resume=out, quick=True, budget="4s")
    assert resumed.results.solos == before.solos
    assert resumed.results.samples[: len(before.samples)] == before.samples
    assert len(resumed.results.samples) > len(before.samples)
    assert not (tmp_path / "other.jsonl").exists()


def test_a_killed_parent_leaves_no_worker_and_a_readable_file(write_suite, tmp_path):
    suite = write_suite("fault_models:tiny", "fault_models:hanging")
    out = tmp_path / "run.jsonl"
    words = ["run", "--suite", suite, "--quick", "--device", "cpu", "--threads", "1", "--out", str(out)]
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.cli", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") >= 2)
    wait_for(lambda: len(descendants_of(child.pid)) > 1)
    workers = descendants_of(child.pid)
    child.kill()
    child.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert [solo.status for solo in read(out).solos.values()] == ["ok"]


def test_quick_has_an_interval_and_resume_refuses_what_differs(write_suite, tmp_path):
    models, out = ("fault_models:tiny", "fault_models:slow"), tmp_path / "run.jsonl"
    suite = write_suite(*models, quick={"max_blocks": 3, "max_rounds": 1, "min_run": "50ms"})
    first = run_suite(suite, out, quick=True).results
    assert {(sample.block, sample.round) for sample in first.samples} == {(0, 0), (1, 0), (2, 0)}
    row = build_table(first).rows[1]
    assert row.speed_low < row.speed_ratio < row.speed_high

    with pytest.raises(UsageError, match="comes from another machine"):
        run_suite(suite, out, resume=out, quick=True, threads=7)
    with pytest.raises(UsageError, match="made by another suite"):
        run_suite(write_suite("fault_models:tiny", lengths=[64]), out, resume=out, quick=True)


def test_an_existing_file_is_not_overwritten(write_suite, tmp_path):
    out = tmp_path / "run.jsonl"
    out.write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        run_suite(write_suite("fault_models:tiny"), out, quick=True)
    assert out.read_text() == "precious"


def test_a_missing_gpu_is_one_line(write_suite, tmp_path, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UsageError, match="has 0 CUDA devices"):
        run_suite(write_suite("fault_models:tiny"), tmp_path / "run.jsonl", device="cuda")
    with pytest.raises(UsageError, match="choose auto, cpu, cuda"):
        run_suite(write_suite("fault_models:tiny"), tmp_path / "run.jsonl", device="gpu")


def test_an_activation_rate_is_set_and_stated(write_suite, tmp_path):
    suite = write_suite(
        "seqboat", lengths=[512], hyperparameters="matched", activation=[0.25, 1.0], precision="fp64"
    )
    rows = build_table(run_suite(suite, tmp_path / "run.jsonl", quick=True).results).rows
    assert [row.activation_rate for row in rows] == [pytest.approx(0.25, abs=0.03), 1.0]
    assert len(rows[0].activation_by_layer) == 4


def descendants_of(pid: int) -> list[int]:
    """The template of workers, and the workers."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def wait_for(condition, seconds: float = 120.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found
