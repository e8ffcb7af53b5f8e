"""What may continue a result file: the same program, and no other."""

from pathlib import Path

import msgspec
import pytest

from bench.errors import UsageError
from bench.measure import session
from bench.measure.header import check_same_run, make_header
from bench.measure.request import load_suite, request_for
from bench.records.gpu import GpuSettings
from bench.records.run import Trained
from bench.records.writing import ResultFile

from ..made_up import CPU, results

DATA = """
import numpy as np
from bench import Batch, Task


class Ones:
    max_length = 64

    def task(self, length):
        return Task("text", length=length, classes=2, vocabulary=2)

    def batch(self, length, batch, fill, seed, index=0, split="all"):
        return Batch(np.ones((batch, length), dtype=int), None, np.zeros(batch, dtype=int))

    def data(self):
        return "ones"


WORKLOAD = Ones()
"""


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    """A module of the user's, with a helper in a file beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helper_of_mine.py").write_text("WIDTH = 8\n")
    (tmp_path / "model_of_mine.py").write_text(
        "from helper_of_mine import WIDTH\n\n\ndef build(task, hyperparameters):\n    return WIDTH\n"
    )
    return tmp_path


@pytest.fixture
def resume(model, write_suite, monkeypatch):
    """Begins a file, and resumes it; what is refused is refused before anything is measured."""
    suite = write_suite("model_of_mine:build", "seqboat", lengths=[32], hyperparameters="small")
    path = model / "run.jsonl"
    with ResultFile(path) as file:
        file.append(make_header(load_suite(request_for(suite)), CPU))
    monkeypatch.setattr(session, "probe_environment", lambda device, threads: CPU)

    class Measures(Exception):
        """Nothing stands in the way."""

    def measures(*words):
        raise Measures

    monkeypatch.setattr(session, "carry_out", measures)

    def go() -> str | None:
        """Why it is refused; None if it is not."""
        try:
            session.run(request_for(suite, resume=path))
        except UsageError as error:
            return str(error)
        except Measures:
            return None
        raise AssertionError

    return go


def test_the_same_program_continues(resume, model):
    (model / "another.py").write_text("")
    assert resume() is None


@pytest.mark.parametrize("file", ["model_of_mine.py", "helper_of_mine.py"])
def test_another_version_of_a_model_does_not_continue_a_file(resume, model, file):
    with (model / file).open("a") as source:
        source.write("\nWIDTH = 1024\n")
    assert "run.jsonl: was made before model_of_mine:build changed" in resume()


def test_another_version_of_the_harness_does_not_continue_a_file(resume, monkeypatch):
    monkeypatch.setattr("bench.measure.header.harness_digest", lambda: "0123456789abcdef")
    assert "was made before this harness changed" in resume()


def test_other_hyperparameters_are_another_program(resume, monkeypatch):
    from implementations.registry import Implementation

    known = Implementation.hyperparameters
    monkeypatch.setattr(
        Implementation, "hyperparameters", lambda self, *words: known(self, *words) | {"width": 1024}
    )
    assert "seqboat changed" in resume()


def test_variables_that_change_the_step_are_another_machine(resume, monkeypatch):
    slower = msgspec.structs.replace(CPU, variables={"ATEN_CPU_CAPABILITY": "default"})
    monkeypatch.setattr(session, "probe_environment", lambda device, threads: slower)
    assert "this is a processor, 2 threads, torch 2.13.0, ATEN_CPU_CAPABILITY=default" in resume()


def test_a_file_from_before_there_were_digests_continues(resume, model):
    path = model / "run.jsonl"
    header = path.read_text()
    path.write_text(header[: header.index('"sources"')].rstrip(",") + "}\n")
    assert resume() is None


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("data_of_mine.py", "workload data_of_mine:WORKLOAD"),
        ("figures_of_mine.py", "metric figures_of_mine:one"),
    ],
)
def test_another_version_of_a_workload_or_metric_does_not_continue_a_file(
    model, write_suite, monkeypatch, file, named
):
    (model / "data_of_mine.py").write_text(DATA)
    (model / "figures_of_mine.py").write_text("def one(step): ...\n")
    others = {"workload": "data_of_mine:WORKLOAD", "metrics": ["figures_of_mine:one"]}
    suite = write_suite("transformer", lengths=[16], hyperparameters="small", **others)
    request = request_for(suite)
    before = make_header(load_suite(request), CPU)
    assert make_header(load_suite(request), CPU).sources == before.sources
    with (model / file).open("a") as source:
        source.write("\nWIDTH = 1024\n")
    run = results(("transformer",))
    earlier = [msgspec.structs.replace(run, header=before)]
    with pytest.raises(UsageError, match=f"was made before {named} changed"):
        check_same_run(earlier, make_header(load_suite(request), CPU), [CPU], cluster=False)


def test_another_file_does_not_continue_a_file(model, write_suite):
    (model / "book.txt").write_text("to be or not to be " * 9)
    suite = write_suite("transformer", lengths=[16], hyperparameters="small", workload="text:book.txt")
    earlier = [
        msgspec.structs.replace(
            results(("transformer",)), header=make_header(load_suite(request_for(suite)), CPU)
        )
    ]
    (model / "book.txt").write_text("to be or not to bo " * 9)
    with pytest.raises(UsageError, match="was made of other data"):
        check_same_run(earlier, make_header(load_suite(request_for(suite)), CPU), [CPU], cluster=False)


def test_other_weights_under_the_same_name_are_refused():
    run = results(["transformer"])
    trained = Trained(
        file="a.safetensors",
        implementation="transformer",
        data="made up",
        steps=100,
        of_steps=100,
        batch=16,
        seed=0,
        accuracy=0.5,
        activation_by_layer=[],
    )
    then = msgspec.structs.replace(run.header, checkpoints={"transformer": trained})
    further = msgspec.structs.replace(trained, steps=200)
    now = msgspec.structs.replace(then, checkpoints={"transformer": further})
    earlier = [msgspec.structs.replace(run, header=then)]
    check_same_run(earlier, then, [CPU], cluster=False)
    with pytest.raises(UsageError, match="was made with other weights"):
        check_same_run(earlier, now, [CPU], cluster=False)


def test_clocks_are_as_they_were():
    locked = msgspec.structs.replace(CPU, gpu=GpuSettings(locked_sm_mhz=1500))
    run = results(["transformer"], environment=locked)
    check_same_run([run], run.header, [locked], cluster=False)
    free = msgspec.structs.replace(run.header, environment=CPU)
    with pytest.raises(UsageError, match="was made with --lock-clocks 1500; continue it so"):
        check_same_run([run], free, [CPU], cluster=False)
    unlocked = msgspec.structs.replace(run, header=free)
    with pytest.raises(UsageError, match="was made without --lock-clocks; continue it so"):
        check_same_run([unlocked], run.header, [locked], cluster=False)
