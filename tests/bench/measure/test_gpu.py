"""`bench run` on a GPU that is played: what is timed, what is planned, what is said."""

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.records.reading import read
from bench.views.tables.table import build_table

from ..simulated_gpu import Model, install


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
    assert "limited by the host, not by the GPU: S4 at 32 (10% busy, 1 kernels a step)" in said
    assert "Transformer at 32 (" not in said
