"""Peak memory without the memory: against measured bytes, and the reason where there is no prediction."""

import json
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import workloads
from bench.errors import UsageError
from bench.measure.memory_needs import BATCH, LENGTH, RESOLUTION, Needs, largest, memory_needs
from bench.measure.procedure import Procedure
from bench.measure.request import Request
from bench.suites import reading as suites
from bench.suites.suite import STRETCH
from bench.text.units import parse_bytes
from bench.workers.forkserver import ForkServer
from bench.workers.messages import (
    MeasureMemory,
    MemoryMeasured,
    Predict,
    Predicted,
    Prepared,
    Warm,
    Warmed,
)
from implementations import registry
from implementations.kernels.cpu.native import library

from ..in_process import bench
from ..made_up import CPU

PLAN = Procedure(suites.load("ci"), msgspec.structs.replace(CPU, threads=1))
CASE = msgspec.structs.replace(suites.load("ci").cases("cpu")[0], activation=None)


def case(implementation: str, length: int = 128, **changes):
    sparse = registry.find(implementation).sparse
    rate = {"activation": 0.3 if sparse else None}
    return msgspec.structs.replace(CASE, implementation=implementation, length=length, **(rate | changes))


def two_layers(implementation: str) -> str:
    """The model with two layers, as good here as four: a prediction takes as long as there are operations."""
    return f"{implementation}(layers=2)"


@pytest.fixture(scope="module")
def server():
    with ForkServer(PLAN.threads, PLAN.sources) as server:
        yield server


def predicted(server, subject):
    with server.start(subject) as worker:
        return worker.ask(Predict(subject, "cpu"), Predicted, 60).prediction


def measured(server, subject):
    """Bytes of a step of the warm model, as the table's column has them."""
    with server.start(subject) as worker:
        worker.ask(PLAN.prepare(subject), Prepared, 60)
        worker.ask(Warm(1, 1, 1.0), Warmed, 60)
        figures = worker.ask(MeasureMemory(), MemoryMeasured, 60).figures
    return next(figure.bytes for figure in figures if figure.kind == "tensor_bytes")


@pytest.mark.parametrize("implementation", registry.catalogue())
def test_the_prediction_is_within_two_percent(server, implementation):
    """And either holds weights, gradients and two moments, at most four bytes of each parameter apart."""
    subject = case(two_layers(implementation))
    found = predicted(server, subject)
    assert found.reason is None
    needed = measured(server, subject)
    assert found.tensor_bytes == pytest.approx(needed, rel=0.02)
    assert needed >= 12 * found.parameters


def test_tied_weights_count_once(server):
    tied = case("mega-chunk", workload="lm", length=32, batch=1)
    assert predicted(server, tied).tensor_bytes == pytest.approx(measured(server, tied), rel=0.005)


@pytest.mark.parametrize("rate", [0.0, 1.0])
@pytest.mark.parametrize("implementation", ["seqboat", "seqboat-fused"])
def test_the_activation_rate_counts(server, implementation, rate):
    subject = case(two_layers(implementation), activation=rate)
    found = predicted(server, subject)
    assert found.tensor_bytes == pytest.approx(measured(server, subject), rel=0.02)


def test_padding_counts_as_inactive(server):
    subject = case("seqboat", 4096, fill="real", activation=0.5)
    assert predicted(server, subject).tensor_bytes == pytest.approx(measured(server, subject), rel=0.02)


@pytest.mark.skipif(library.library() is None, reason="no kernels in C here")
def test_padding_costs_the_scans_in_c_nothing(server):
    subject = case("mega-fused", 4096, fill="real")
    assert predicted(server, subject).tensor_bytes == pytest.approx(measured(server, subject), rel=0.02)


def test_what_depends_on_values_has_a_reason(server, monkeypatch):
    assert predicted(server, case("seqboat", activation=None)).reason == (
        "how many steps are active depends on values: give an activation rate"
    )
    monkeypatch.setenv(library.SETTING, "off")
    with ForkServer(PLAN.threads, PLAN.sources) as transforms:
        assert "padding" in predicted(transforms, case("mega-fused", 4096, fill="real")).reason


def test_a_length_that_would_not_fit(server):
    """Attention is quadratic: sixty-four times as long takes far more than 1,000 times the memory."""
    small, large = (predicted(server, case("transformer", n)).tensor_bytes for n in (512, 32_768))
    assert large > 1000 * small
    assert large > 100 << 30


def test_a_model_that_cannot_be_imported_is_a_reason(server):
    assert "No module named" in predicted(server, case("no_such_module:build")).reason


@given(
    per_step=st.integers(1, 1 << 20),
    per_pair=st.integers(0, 1 << 10),
    budget=st.integers(1, 1 << 50),
)
def test_the_longest_that_fits(per_step, per_pair, budget):
    most = 1 << 20

    def need(length: int) -> int:
        return per_step * length + per_pair * length**2

    needs, length = largest(case("s4"), budget, lambda c: Needs(bytes=need(c.length)))
    if needs.bytes is None:
        assert need(LENGTH.grain) > budget
        assert "need more than" in needs.reason
        return
    assert needs.bytes == need(length) <= budget
    further = length + 2 * max(LENGTH.grain, length // RESOLUTION)
    assert length == most or need(further) > budget


@given(per_sequence=st.integers(1, 1 << 20), always=st.integers(0, 1 << 20), budget=st.integers(1, 1 << 40))
def test_the_largest_batch_that_fits(per_sequence, always, budget):
    def need(batch: int) -> int:
        return always + per_sequence * batch

    needs, batch = largest(case("s4"), budget, lambda c: Needs(bytes=need(c.batch)), BATCH)
    if needs.bytes is None:
        assert need(1) > budget
        assert needs.reason.startswith("even 1 sequences need more than")
        return
    assert needs.bytes == need(batch) <= budget
    assert batch == 1 << 20 or need(batch + 2 * max(1, batch // RESOLUTION)) > budget


def test_out_of_memory_is_too_long_and_other_failures_are_told():
    needs, length = largest(
        case("s4"), 1 << 40, lambda c: Needs(bytes=1) if c.length < 1000 else Needs(too_large=True)
    )
    assert (needs.bytes, length) == (1, 896)
    needs, _ = largest(case("s4"), 1 << 40, lambda c: Needs(reason="crashed"))
    assert (needs.bytes, needs.reason) == (None, "crashed")


@pytest.mark.parametrize(
    ("text", "count"),
    [("8GiB", 8 << 30), ("512 MiB", 512 << 20), ("8GB", 8 * 10**9), ("1.5k", 1500), ("77", 77)],
)
def test_bytes_are_read(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "much", "-1GiB", "0", "8GiBs", "i"])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(ValueError, match="memory"):
        parse_bytes(text)


def test_a_budget_that_is_none_is_bad_usage():
    with pytest.raises(UsageError, match="--max-length: 'much' is not an amount of memory"):
        memory_needs(Request("ci", Path()), predicted=True, max_length="much")
    with pytest.raises(UsageError, match=r"--executor ray: .* are for this machine alone"):
        memory_needs(Request("ci", Path(), executor="ray"), predicted=True, max_length=None)


def bench_run(*words: str) -> subprocess.CompletedProcess[str]:
    return bench("run", "--device", "cpu", "--threads", "1", *words)


def test_a_prediction_at_equal_parameters_has_its_width(write_suite):
    suite = write_suite("transformer-sdpa", hyperparameters="params:300K")
    done = bench_run("--suite", suite, "--predict", "--columns", "params,width,parameters", "--format", "csv")
    assert done.returncode == 0, done.stderr
    words, (figures, *_) = done.stdout.splitlines()[0], done.stdout.splitlines()[1:]
    found = dict(zip(words.split(","), figures.split(","), strict=True))
    assert found["width"].isdigit()
    assert abs(int(found["parameters"]) - 300_000) <= 9_000


@pytest.mark.parametrize("how", [("--predict",), ("--max-batch", "20MiB")])
def test_a_column_that_a_prediction_lacks_is_refused_before_anything_is_done(write_suite, how):
    done = bench_run("--suite", write_suite("transformer-sdpa"), *how, "--columns", "model,ms/step")
    assert done.returncode == 2
    assert "--columns ms/step" in done.stderr
    assert "transformer-sdpa at" not in done.stderr


def test_predictions_that_all_failed_have_the_columns_that_were_asked_for(write_suite):
    suite = write_suite("hf:nosuch")
    done = bench_run(
        "--suite", suite, "--predict", "--columns", "mem,params,peak memory", "--format", "markdown"
    )
    assert done.returncode == 3, done.stderr
    assert "choose" not in done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| hf:nosuch"))
    assert "X" in row


def test_a_table_of_predictions(write_suite, tmp_path, monkeypatch):
    """With libraries that print whatever process they are loaded in: answers travel elsewhere."""
    (tmp_path / "sitecustomize.py").write_text("print('hello')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    suite = write_suite("s4d-legs", "seqboat", hyperparameters="matched")
    done = bench_run("--suite", suite, "--predict", "--format", "json")
    assert done.returncode == 3, done.stderr
    first, second = json.loads(done.stdout.removeprefix("hello\n"))
    assert first["peak_memory_bytes"] > 0
    assert (first["peak_memory_kind"], first["memory_ratio"], first["speed_ratio"]) == (
        "predicted",
        1.0,
        None,
    )
    assert second["peak_memory_bytes"] is None
    assert second["reason"].startswith("not predictable: how many steps are active")
    assert "seqboat at 32 × 1: not predictable" in done.stderr


@pytest.mark.usefixtures("plug_ins")
def test_the_longest_sequence_is_measured(write_suite):
    done = bench_run("--suite", write_suite("fault_models:tiny"), "--max-length", "64KiB")
    assert done.returncode == 0, done.stderr
    assert "Length: the longest that trains within 64.0 KiB" in done.stdout
    assert "Memory: measured" in done.stdout


@pytest.mark.usefixtures("plug_ins")
def test_the_largest_batch_at_each_length(write_suite):
    """Twice the length, half the batch: the model's own bytes are few beside its states."""
    suite = write_suite("fault_models:tiny", lengths=[256, 512])
    request = Request(suite, Path(), device="cpu", threads=1)
    found = memory_needs(request, predicted=False, max_batch="2MiB")
    short, long = (case.batch for case in found.sized.values())
    assert short == pytest.approx(2 * long, rel=0.05)
    assert found.complete
    assert "Batch: the largest that trains within 2.00 MiB, within 1/64 of itself" in found.notes
    with pytest.raises(UsageError, match="--max-length and --max-batch: give one of them"):
        memory_needs(request, predicted=True, max_length="1GiB", max_batch="1GiB")


def test_nothing_is_kept():
    done = bench_run("--suite", "ci", "--predict", "--out", "x.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert "keep no file" in done.stderr


def test_decoding_is_not_predicted_as_another_step(server):
    decoding = case("transformer", workload="lm", length=64, batch=1, phase="decode")
    found = predicted(server, decoding)
    assert found.tensor_bytes is None
    assert "decoding" in found.reason
    longest = workloads.load("lm").max_length
    assert LENGTH.most(decoding) == longest - STRETCH
    assert LENGTH.most(msgspec.structs.replace(decoding, phase="train")) == longest
