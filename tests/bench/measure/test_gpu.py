"""`bench run` on a GPU that is played: what is timed, what is planned, what is said."""

import pytest
import torch
from typer.testing import CliRunner

from bench.cli import app
from bench.records.gpu import GpuSettings
from bench.records.reading import read
from bench.views.tables.table import build_table
from bench.workers import worker

from ..simulated_gpu import GIB, Model, install


@pytest.fixture
def bench_run(monkeypatch, write_suite, tmp_path):
    """Runs the command on models by name; gives what it printed, the results and the device."""

    def run(*options: str, models: dict[str, Model], timing=None, baseline=None, **device):
        gpu = install(monkeypatch, models, **device)
        timing = {"max_blocks": 1, "min_blocks": 1, "max_rounds": 2, "budget": "1h", "deadline": "60s"} | (
            timing or {}
        )
        suite = write_suite(*models, timing=timing)
        path = tmp_path / "run.jsonl"
        done = CliRunner().invoke(
            app, ["run", "--suite", suite, "--device", "cuda", "--out", str(path), *options]
        )
        assert done.exit_code in (0, 3), (done.output, done.exception)
        return " ".join(done.output.split()), read(path), gpu

    return run


def test_work_on_a_side_stream_is_not_too_fast(bench_run):
    models = {
        "transformer": Model(kernels=0.020),
        "s4": Model(kernels=0.001, aside=0.020),
        "mega": Model(kernels=0.002, host=0.020),
    }
    said, results, _ = bench_run(models=models)
    seconds = {}
    for sample in results.samples:
        seconds.setdefault(sample.case_id.split("/")[0], []).append(sample.step_seconds)
    assert all(value == pytest.approx(0.020, rel=0.05) for values in seconds.values() for value in values)
    assert "the GPU worked on when the timed stream had ended, and wall-clock time counts: S4 at 32" in said
    assert {s.case_id.split("/")[0] for s in results.samples if s.aside_seconds} == {"s4"}


def test_a_row_that_the_host_limits_says_so(bench_run):
    models = {"transformer": Model(kernels=0.020), "s4": Model(kernels=0.002, host=0.020)}
    said, results, _ = bench_run(models=models)
    assert [row.gpu_busy for row in build_table(results).rows] == pytest.approx([0.95, 0.1], abs=0.05)
    assert "limited by the host, not by the GPU: S4 at 32 (10% busy, 1 kernels per step)" in said
    assert "Transformer at 32 (" not in said


def seconds_of(results, model):
    return [s.step_seconds for s in results.samples if s.case_id.startswith(f"{model}/")]


def test_compiling_is_neither_a_step_nor_a_build_nor_a_deadline(bench_run):
    """100 s of it, of a deadline of 60 s, and 12 s, where a plan had time for 10."""
    models = {"transformer": Model(kernels=0.015), "s4": Model(compiles=100.0), "mega": Model(compiles=12.0)}
    _, results, _ = bench_run(models=models)
    for solo in results.solos.values():
        assert solo.status == "ok"
        assert solo.stationary
        assert max(solo.warmup_seconds) < 0.02
        assert solo.step_seconds == pytest.approx(models[solo.case.implementation].kernels, rel=0.2)
        assert solo.compile_seconds >= models[solo.case.implementation].compiles
        assert solo.prepare_seconds < 5


def test_what_compiles_for_too_long_has_hung(bench_run):
    _, results, _ = bench_run(models={"transformer": Model(), "s4": Model(compiles=301.0)})
    (slow,) = [solo for solo in results.solos.values() if solo.status != "ok"]
    assert slow.reason == "in its first steps, which compile: gave no answer within 300 s"


def test_quick_times_warm_steps_in_runs_of_a_fifth_of_a_second(bench_run):
    models = {"transformer": Model(kernels=0.015, compiles=12.0), "s4": Model(kernels=0.1, compiles=1.5)}
    _, results, _ = bench_run("--quick", models=models)
    assert {s.steps for s in results.samples} == {13, 2}
    for name, model in models.items():
        assert seconds_of(results, name) == [pytest.approx(model.kernels, rel=0.1)] * 2


def test_the_first_step_after_others_had_the_device_is_not_timed(bench_run):
    _, results, _ = bench_run(models={"transformer": Model(cold=0.1), "s4": Model(cold=0.5)})
    for name in ("transformer", "s4"):
        assert seconds_of(results, name) == [pytest.approx(0.010, rel=0.1)] * 4


def test_all_that_fit_alone_are_resident_together(bench_run):
    """A Transformer of 69 GiB on 80 GiB among ten others: a process each, no group of its own for any."""
    others = "mega seqboat s4 s5 mamba2 luna-256 h3 linformer performer reformer"
    models = {"transformer": Model(activations=69 * GIB)}
    models |= {name: Model(activations=5 * GIB) for name in others.split()}
    _, results, gpu = bench_run(models=models, total=80 * GIB, free_bytes=79 * GIB)
    assert all(solo.status == "ok" for solo in results.solos.values())
    assert {sample.group for sample in results.samples} == {0}
    assert not results.lost
    assert gpu.starts == 11 + 11


def test_workers_that_take_turns_are_planned_with_their_starts(bench_run):
    """Weights alone fill the device: each visit has its own process, and a block has fewer rounds for it."""
    heavy = Model(weights=50 * GIB, kernels=0.1)
    timing = {"max_rounds": 8, "budget": "1m", "min_blocks": 1, "max_blocks": 1}
    _, results, gpu = bench_run(models={"transformer": heavy, "s4": heavy}, timing=timing)
    rounds = 1 + max(sample.round for sample in results.samples)
    assert gpu.starts == 2 + 4 * rounds
    assert gpu.now < 60
    assert 1 < rounds < 8


def test_a_device_too_small_for_what_was_planned_is_taken_in_turns(bench_run):
    """What is free is less than it was: the block goes on, a worker at a time, and loses no model."""
    model = Model(weights=30 * GIB)
    _, results, gpu = bench_run(
        models={"transformer": model, "s4": model}, total=50 * GIB, free_bytes=79 * GIB
    )
    assert not results.lost
    assert len(results.samples) == 8
    assert gpu.starts == 2 + 2 + 8


def test_a_fault_of_the_device_costs_its_own_row(bench_run):
    fault = torch.AcceleratorError("CUDA error: device-side assert triggered\nFor debugging consider …")
    said, results, _ = bench_run(models={"transformer": Model(), "s4": Model(fails=fault), "mega": Model()})
    assert "failed: AcceleratorError: CUDA error: device-side assert triggered" in said
    assert {s.case_id.split("/")[0] for s in results.samples} == {"transformer", "mega"}


TOO_LARGE = {"transformer": Model(activations=100 * GIB), "s4": Model()}


def test_before_it_starts_a_run_says_which_batch_its_baseline_fits(bench_run):
    said, results, _ = bench_run(models=TOO_LARGE, free_bytes=79 * GIB)
    warning = (
        "the baseline transformer at 32 × 25 (fp32) needs more than the 76.0 GiB that cuda:0 has for it:"
    )
    assert f"{warning} --batch 19 fits, and --batch auto takes it" in said
    assert said.index(warning) < said.index("[1/2]")
    assert {solo.status for solo in results.solos.values()} == {"oom", "ok"}


def test_batch_auto_is_the_largest_that_the_baseline_fits(bench_run):
    said, results, _ = bench_run("--batch", "auto", models=TOO_LARGE, free_bytes=79 * GIB)
    assert "batch auto: 19, the largest with which transformer fits in 76.0 GiB" in said
    assert {(solo.case.batch, solo.status) for solo in results.solos.values()} == {(19, "ok")}


def test_batch_auto_is_the_suites_own_where_that_fits(bench_run):
    said, results, _ = bench_run("--batch", "auto", models={"transformer": Model(), "s4": Model()})
    assert "batch auto: 25, the suite's own in 77.0 GiB" in said
    assert {solo.case.batch for solo in results.solos.values()} == {25}


def test_a_run_begins_where_steps_need_no_more_memory_of_the_driver(bench_run):
    """Some steps after others had the device each need more than the one before."""
    models = {"transformer": Model(), "s4": Model(growth=GIB)}
    _, results, _ = bench_run(models=models)
    assert [sample.gpu.allocations for sample in results.samples] == [0] * 8


def test_memory_that_grows_without_end_is_told(bench_run, monkeypatch):
    monkeypatch.setattr(worker, "MOST_UNTIMED_STEPS", 2)
    said, results, _ = bench_run(models={"transformer": Model(), "s4": Model(growth=GIB)})
    allocations = {sample.case_id.split("/")[0]: sample.gpu.allocations for sample in results.samples}
    assert allocations == {"transformer": 0, "s4": 2}
    assert "memory that the driver allocated in timed runs: S4 at 32 (2 per run)" in said


def test_a_workers_current_device_is_the_one_that_it_measures(bench_run):
    _, _, gpu = bench_run(models={"transformer": Model(), "s4": Model()})
    assert gpu.current == ["cuda:0"] * gpu.starts


def test_workers_take_turns_on_a_gpu_that_has_one_process_at_a_time(bench_run):
    settings = GpuSettings(compute_mode="exclusive process")
    _, results, gpu = bench_run(models={"transformer": Model(), "s4": Model()}, gpu=settings)
    assert len(results.samples) == 8
    assert gpu.starts == 2 + 8
    assert gpu.most_at_once == 1
