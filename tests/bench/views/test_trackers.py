"""Exports for PyTorch's HUD, Weights & Biases and MLflow: valid by schema, or read back by the library."""

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import msgspec
import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import UsageError
from bench.records.solo import MetricFigure
from bench.views import pytorch_hud

from ..made_up import results, write

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "pytorch-hud-v3.json").read_text())


@pytest.fixture
def file(tmp_path):
    """A run of two models that were timed and one that was not, with a figure of the user's."""
    run = results(("transformer", "s4", "mega"), failed={"mega": "oom"}, blocks=4)
    figure = MetricFigure(metric="m:f", name="norm (of all)", value=2.5, unit="nats")
    solos = {
        name: msgspec.structs.replace(solo, metrics=[figure] if solo.status == "ok" else [])
        for name, solo in run.solos.items()
    }
    return write(msgspec.structs.replace(run, solos=solos), tmp_path)


@pytest.fixture
def offline(monkeypatch):
    """Nothing may be looked up beyond this machine."""
    known = socket.socket.connect

    def connect(self, address):
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"), address
        return known(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


def export(*words: object):
    return CliRunner().invoke(app, ["export", *map(str, words)])


def test_records_of_the_hud_follow_their_schema(file, tmp_path):
    out = tmp_path / "hud.json"
    assert export(file, "--to", "pytorch-hud", "-o", out).exit_code == 0
    records = json.loads(out.read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(records)
    steps = {r["model"]["name"]: r for r in records if r["metric"]["name"] == "step_time(ms)"}
    assert steps.keys() == {"transformer", "s4"}
    assert len(steps["s4"]["metric"]["benchmark_values"]) == 4
    assert steps["s4"]["benchmark"]["mode"] == "training"
    assert {r["metric"]["name"] for r in records} >= {"norm (of all)(nats)", "peak_memory(bytes)"}
    assert "mega" not in {r["model"]["name"] for r in records}


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["metric"].update(benchmark_values=["fast"]),
        lambda record: record["benchmark"]["extra_info"].update(seed=0),
        lambda record: record["runners"][0].update(cpu_count=-1),
        lambda record: record.pop("model"),
    ],
)
def test_the_schema_refuses_what_is_not_of_v3(change):
    records = json.loads(pytorch_hud.as_text(results(("transformer", "s4"))))
    jsonschema.Draft202012Validator(SCHEMA).validate(records)
    change(records[0])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(records)


def test_mlflow_reads_its_store_back(file, tmp_path, offline):
    mlflow = pytest.importorskip("mlflow")
    store = tmp_path / "store"
    for _ in range(2):
        ran = export(file, "--to", "mlflow", "-o", store)
        assert ran.exit_code == 0, ran.exception
    client = mlflow.MlflowClient(tracking_uri=store.resolve().as_uri())
    experiment = client.get_experiment_by_name("made-up")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 6
    found = {run.data.params["model"]: run for run in runs}
    assert found["mega"].info.status == "FAILED"
    assert found["mega"].data.tags["reason"] == "Tried to allocate 64.0 GiB"
    assert found["s4"].data.params["length"] == "4096"
    assert found["s4"].data.metrics["norm _of all_ nats"] == 2.5
    assert found["s4"].data.metrics["peak_memory bytes"] > 0
    assert len(client.get_metric_history(found["s4"].info.run_id, "step_time ms")) == 4


def chunks_of(log: bytes) -> Iterator[bytes]:
    """The records of wandb's transaction log: LevelDB's log format, in blocks of 32 KiB, behind 7 bytes."""
    assert log[:4] == b":W&B"
    place, block, parts = 7, 1 << 15, b""
    while place < len(log):
        left = block - place % block
        if left < 7:
            place += left
            continue
        size, kind = int.from_bytes(log[place + 4 : place + 6], "little"), log[place + 6]
        parts += log[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def test_wandb_reads_its_run_back(file, tmp_path, offline):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    folder = tmp_path / "runs"
    ran = export(file, "--to", "wandb", "-o", folder)
    assert ran.exit_code == 0, ran.exception
    (log,) = folder.glob("wandb/offline-run-*/*.wandb")
    records = [Record.FromString(content) for content in chunks_of(log.read_bytes())]
    kinds = {record.WhichOneof("record_type") for record in records}
    assert {"run", "history", "summary"} <= kinds
    run = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    assert run.display_name == "made-up"
    assert sum(record.WhichOneof("record_type") == "history" for record in records) == 4
    text = b"".join(record.SerializeToString() for record in records).decode(errors="replace")
    assert "a processor" in text
    assert "norm (of all)" in text
    assert "WANDB_MODE" not in __import__("os").environ


@pytest.mark.parametrize("library", ["wandb", "mlflow"])
def test_a_library_that_is_not_there_is_one_line(file, tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    ran = export(file, "--to", library, "-o", tmp_path / "x")
    assert str(ran.exception) == f'needs {library}: pip install "seqboat-bench[{library}]"'
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("library", ["wandb", "mlflow"])
def test_what_a_library_raises_is_one_line(file, tmp_path, monkeypatch, library):
    class Broken:
        def __getattr__(self, name):
            raise OSError("disk\nis full")

    monkeypatch.setitem(sys.modules, library, Broken())
    ran = export(file, "--to", library, "-o", tmp_path / "x")
    assert str(ran.exception) == f"--to {library}: the library could not write (OSError: disk is full)"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give --format, or --to with --out"),
        (["--to", "wandb", "--format", "junit"], "give --format, or --to with --out"),
        (["--to", "wandb"], "--to wandb: name a folder with --out"),
        (["--to", "pytorch-hud"], "--to pytorch-hud: name a file with --out"),
        (["--to", "tensorboard", "-o", "x"], "--to tensorboard: choose pytorch-hud, wandb, mlflow"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(file, words, told):
    ran = export(file, *words)
    assert isinstance(ran.exception, UsageError)
    assert told in str(ran.exception)


def test_an_export_never_takes_the_place_of_its_record(file):
    before = file.read_bytes()
    assert "is one of the files that are read" in str(
        export(file, "--to", "pytorch-hud", "-o", file).exception
    )
    assert file.read_bytes() == before
