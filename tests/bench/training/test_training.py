"""Training: what resumes exactly, what is recorded, what is refused."""

import itertools
import json
import math
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench import workloads
from bench.errors import ResultError, UsageError
from bench.measure.request import Request as RunRequest
from bench.measure.session import run
from bench.records import checkpoint as checkpoints
from bench.records.schedules import schedule_of
from bench.records.training import Evaluation, ParameterGroup, Recipe, read_training
from bench.suites.case import Case
from bench.suites.suite import Suite
from bench.system.signals import termination_interrupts
from bench.training.display import PlainTrainingDisplay
from bench.training.recipe import make_recipe
from bench.training.session import TrainRequest, models_of, train
from bench.training.trainer import Trainer, entropy
from bench.views.tables.formats import render
from bench.views.training import Trainings
from implementations import registry

from ..in_process import bench, ctrl_c
from ..made_up import CPU

pytestmark = pytest.mark.usefixtures("plug_ins")

SMALL = {"steps": 6, "batch": 3, "evaluate_every": 3, "validation_sequences": 5}


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Trainings run in this process: others must not notice, and none is started to ask for the machine."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    machine = msgspec.structs.replace(CPU, threads=1)
    monkeypatch.setattr("bench.training.session.probe_environment", lambda device, threads: machine)
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)


def ask(suite: str, out: Path, *, resume: bool = False, overrides=None, **changes) -> TrainRequest:
    return TrainRequest(suite, out, overrides or {}, {**SMALL, **changes}, "cpu", 1, resume)


class StopAt:
    """An interruption before a given step."""

    def __init__(self, trainer_step: int) -> None:
        self.left = trainer_step

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture
def suite(write_suite):
    return write_suite(
        "seqboat", "s4", lengths=[32], hyperparameters="small", fill="real", training={"steps": 6, "batch": 3}
    )


@pytest.mark.parametrize(
    ("name", "stop"), [("seqboat", 3), ("seqboat", 4), ("seqboat-fused", 4), ("s4", 4), ("reformer", 4)]
)
def test_a_resumed_training_is_the_same_to_the_last_bit(tmp_path, suite, monkeypatch, name, stop):
    """3 steps is at a checkpoint, 4 between two."""
    options = {"overrides": {"implementations": [name], "baseline": name}, "learning_rate": 0.01}
    whole = train(ask(suite, tmp_path / "whole", **options)).trainings[0]

    import bench.training.session as session

    with monkeypatch.context() as patch:
        original = session._train
        patch.setattr(session, "_train", lambda *parts: original(*parts[:-1], StopAt(stop)))
        cut = train(ask(suite, tmp_path / "cut", **options))
    assert cut.trainings[0].end.reason == "interrupted"
    assert checkpoints.read(tmp_path / "cut" / f"{name}.safetensors").step == stop
    resumed = train(ask(suite, tmp_path / "cut", **options, resume=True)).trainings[0]

    files = [load_file(tmp_path / folder / f"{name}.safetensors") for folder in ("whole", "cut")]
    assert files[0].keys() == files[1].keys()
    assert {"random.cpu", "optimizer.0.exp_avg"} <= files[0].keys()
    for key, tensor in files[0].items():
        assert torch.equal(tensor, files[1][key]), key
    assert whole.finished
    assert resumed.finished
    assert resumed.evaluations == whole.evaluations
    assert [p.loss for p in resumed.progress] == [p.loss for p in whole.progress]
    assert [p.learning_rate for p in resumed.progress] == [p.learning_rate for p in whole.progress]


def shown(outcome, form: str = "terminal") -> str:
    return render(Trainings.of(outcome.trainings), form)


def test_what_a_training_records(tmp_path, suite):
    outcome = train(ask(suite, tmp_path / "out"))
    assert outcome.complete
    seqboat, s4 = outcome.trainings
    assert [training.begin.case.implementation for training in outcome.trainings] == ["seqboat", "s4"]
    assert seqboat.begin.recipe.learning_rate == 0.004
    assert seqboat.begin.recipe.source.startswith("renll/SeqBoat@")
    assert seqboat.begin.case.fill == "real"
    assert [evaluation.step for evaluation in seqboat.evaluations] == [0, 3, 6]
    assert [progress.step for progress in seqboat.progress] == [3, 6]
    for evaluation in seqboat.evaluations:
        assert 0 <= evaluation.accuracy <= 1
        assert evaluation.bits_per_character is None
        assert evaluation.chance_loss == pytest.approx(entropy(np.array([0.4, 0.6])))
        assert len(evaluation.activation) == 4
        for layer in evaluation.activation:
            assert layer.low <= layer.mean <= layer.high or layer.deviation < 0.5
            assert 0 <= layer.low <= layer.high <= 1
    assert all(evaluation.activation == [] for evaluation in s4.evaluations)
    rows = json.loads(shown(outcome, "json"))
    assert rows[0]["accuracy"] == seqboat.evaluations[-1].accuracy
    assert "in proportion to the published: SeqBoat 25000 steps, S4" in shown(outcome)


def test_a_language_model_is_measured_in_bits(tmp_path, write_suite):
    suite = write_suite(
        "fault_models:next_byte", workload="lm", lengths=[16], training={"steps": 2, "batch": 2}
    )
    evaluation = train(ask(suite, tmp_path / "out", learning_rate=0.01)).trainings[0].evaluations[-1]
    assert evaluation.accuracy is None
    assert evaluation.bits_per_character == pytest.approx(evaluation.loss / math.log(2))


def test_evaluations_leave_no_trace(tmp_path, suite):
    """Training that is never evaluated in between comes to the same weights."""
    overrides = {"implementations": ["reformer"], "baseline": "reformer"}
    often = ask(suite, tmp_path / "often", overrides=overrides, learning_rate=0.01, evaluate_every=1)
    once = ask(suite, tmp_path / "once", overrides=overrides, learning_rate=0.01, evaluate_every=6)
    for request in (often, once):
        train(request)
    first, second = (load_file(tmp_path / name / "reformer.safetensors") for name in ("often", "once"))
    assert all(torch.equal(first[key], second[key]) for key in second)


def test_a_training_that_exists_is_not_written_over(tmp_path, suite):
    train(ask(suite, tmp_path / "out"))
    with pytest.raises(UsageError, match="exists already; continue it with --resume"):
        train(ask(suite, tmp_path / "out"))
    before = (tmp_path / "out" / "seqboat.jsonl").read_bytes()
    assert train(ask(suite, tmp_path / "out", resume=True)).complete
    assert (tmp_path / "out" / "seqboat.jsonl").read_bytes() == before
    with pytest.raises(UsageError, match=r"another training \(steps 6, now 7"):
        train(ask(suite, tmp_path / "out", resume=True, steps=7))


@pytest.mark.parametrize(
    "change", [{"device": "cuda:0"}, {"hardware": "another"}, {"threads": 2}, {"torch": "2.0"}], ids=str
)
def test_another_machine_does_not_continue_a_training(tmp_path, suite, monkeypatch, change):
    """It would not come to the same weights, under a record that names the first machine."""
    train(ask(suite, tmp_path / "out"))
    other = msgspec.structs.replace(CPU, **{"threads": 1, **change})
    monkeypatch.setattr("bench.training.session.probe_environment", lambda device, threads: other)
    with pytest.raises(UsageError, match=r"seqboat\.jsonl: comes from another machine"):
        train(ask(suite, tmp_path / "out", resume=True))


def test_a_state_that_can_not_be_loaded_costs_its_own_training_only(tmp_path, suite, monkeypatch):
    import bench.training.session as session

    with monkeypatch.context() as patch:
        original = session._train
        patch.setattr(session, "_train", lambda *parts: original(*parts[:-1], StopAt(4)))
        train(ask(suite, tmp_path / "out"))
    load = Trainer.load

    def fails(self, step, tensors):
        if self.case.implementation == "seqboat":
            raise KeyError("random.cuda")
        load(self, step, tensors)

    monkeypatch.setattr(Trainer, "load", fails)
    seqboat, s4 = train(ask(suite, tmp_path / "out", resume=True)).trainings
    assert (seqboat.end.reason, seqboat.end.detail) == ("error", "KeyError: 'random.cuda'")
    assert s4.finished


@pytest.mark.parametrize("name", ["nan", "wants_a_key"])
def test_a_model_that_failed_at_once_is_begun_anew(tmp_path, write_suite, name):
    """Else the line that resumes the others would be refused."""
    suite = write_suite(f"fault_models:{name}", "fault_models:tiny", training={"steps": 4, "batch": 2})
    request = ask(suite, tmp_path / "out", learning_rate=0.01)
    first, _ = train(request).trainings
    again, tiny = train(replace(request, resume=True)).trainings
    assert (again.end.reason, again.end.step) == (first.end.reason, 0)
    assert (tmp_path / "out" / f"fault_models_{name}.jsonl").read_text().count('"training"') == 1
    assert tiny.finished


def test_two_models_never_share_files(tmp_path, write_suite):
    rows = ["a+b=fault_models:tiny", "a_b=fault_models:tiny"]
    suite = write_suite(*rows, training={"steps": 4, "batch": 2})
    with pytest.raises(UsageError, match=r"a_b_fault_models_tiny\.jsonl: would be the file of both a\+b="):
        train(ask(suite, tmp_path / "out", learning_rate=0.01))
    assert not (tmp_path / "out").exists()


def test_a_broken_checkpoint_is_refused(tmp_path, suite):
    train(ask(suite, tmp_path / "out"))
    (tmp_path / "out" / "seqboat.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(UsageError, match=r"seqboat\.safetensors: cannot be read as a checkpoint"):
        train(ask(suite, tmp_path / "out", resume=True))


def test_a_torn_record_is_dropped(tmp_path, suite):
    train(ask(suite, tmp_path / "out"))
    path = tmp_path / "out" / "seqboat.jsonl"
    path.write_bytes(path.read_bytes() + b'{"type": "prog')
    assert read_training(path).finished


@pytest.mark.parametrize("damage", [b'"suite":"\xff', b'"more":' + b"[" * 100_000], ids=["byte", "depth"])
def test_a_damaged_record_is_named(tmp_path, suite, damage):
    train(ask(suite, tmp_path / "out"))
    path = tmp_path / "out" / "seqboat.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"suite":"', damage, 1))
    with pytest.raises(ResultError, match=r"seqboat\.jsonl: line 1 is not a record of a training"):
        read_training(path)


def test_a_loss_that_is_no_number_ends_the_training(tmp_path, write_suite):
    suite = write_suite("fault_models:nan", "fault_models:tiny", training={"steps": 4, "batch": 2})
    outcome = train(ask(suite, tmp_path / "out", learning_rate=0.01))
    broken, sound = outcome.trainings
    assert not outcome.complete
    assert (broken.end.reason, broken.end.step) == ("nan", 0)
    assert "the loss is not a number at step 0" in shown(outcome)
    assert sound.finished


def test_a_model_that_raises_costs_its_own_training_only(tmp_path, write_suite):
    suite = write_suite("fault_models:raising", "fault_models:tiny", training={"steps": 4, "batch": 2})
    raising, tiny = train(ask(suite, tmp_path / "out", learning_rate=0.01)).trainings
    assert raising.end.detail == "RuntimeError: the third layer is upside down"
    assert tiny.finished


@pytest.mark.parametrize("name", ["wants_a_key", "next_byte"])
def test_any_failure_costs_its_own_training_only(tmp_path, write_suite, name):
    """A KeyError when it is built, and a ValueError in a step."""
    suite = write_suite(f"fault_models:{name}", "fault_models:tiny", training={"steps": 4, "batch": 2})
    broken, tiny = train(ask(suite, tmp_path / "out", learning_rate=0.01)).trainings
    assert broken.end.reason == "error"
    assert "Traceback" in broken.end.traceback
    assert tiny.finished


def test_weights_without_their_record_are_not_overwritten(tmp_path, write_suite):
    suite = write_suite("fault_models:tiny", training={"steps": 4, "batch": 2})
    train(ask(suite, tmp_path / "out", learning_rate=0.01))
    (tmp_path / "out" / "fault_models_tiny.jsonl").unlink()
    with pytest.raises(UsageError, match="exists already, without"):
        train(ask(suite, tmp_path / "out", learning_rate=0.01))


def test_being_stuck_at_chance_is_said_once(tmp_path, write_suite, capsys):
    suite = write_suite(
        "fault_models:tiny", workload="listops", lengths=[32], training={"steps": 8, "batch": 2}
    )
    request = ask(
        suite, tmp_path / "out", learning_rate=1e-9, steps=8, evaluate_every=2, validation_sequences=64
    )
    (training,) = train(request).trainings
    assert training.plateau.step == 2
    assert training.plateau.loss > 0.99 * training.plateau.chance_loss
    assert capsys.readouterr().err.count("is still that of guessing") == 1


def test_what_cannot_be_trained_is_refused(tmp_path, suite, write_suite):
    cases = {
        "no published training settings for text: give --learning-rate": ask(
            suite, tmp_path / "a", overrides={"implementations": ["h3"], "baseline": "h3"}
        ),
        "warm-up of 9 steps is longer": ask(suite, tmp_path / "b", warm_up=9),
        "--activation-reg inf: it must be at least 0, and finite": ask(
            suite, tmp_path / "h", activation_penalty=math.inf
        ),
        "learning rate 0.0: it must be above 0": ask(suite, tmp_path / "c", learning_rate=0.0),
        "s4 has no configurators": ask(
            suite,
            tmp_path / "d",
            overrides={"implementations": ["s4"], "baseline": "s4"},
            activation_penalty=1.0,
        ),
        "fp16: gradients would vanish": ask(suite, tmp_path / "e", overrides={"precision": "fp16"}),
        "gives no gradient of the confidence": ask(
            suite,
            tmp_path / "f",
            overrides={"implementations": ["seqboat-fused"], "baseline": "seqboat-fused"},
            activation_penalty=1.0,
        ),
    }
    for words, request in cases.items():
        with pytest.raises(UsageError, match=words):
            train(request)
    generated = write_suite("seqboat", workload="listops", lengths=[32], hyperparameters="small")
    with pytest.raises(UsageError, match="no epochs: give --steps"):
        train(ask(generated, tmp_path / "g", epochs=1.0))


def test_epochs_are_counted_in_training_sequences(tmp_path, write_suite):
    suite = write_suite("seqboat", workload="image", lengths=[64], hyperparameters="small")
    sequences = workloads.load("image").sequences("train")
    request = ask(suite, tmp_path / "out", epochs=2 / sequences, batch=2, evaluate_every=1)
    assert train(request).trainings[0].begin.recipe.steps == 1


def test_a_penalty_lowers_the_activation(suite):
    """The gradient of the mean confidence does it alone: the task's loss is left out."""
    trainer = Trainer(case(), recipe(activation_penalty=10.0, learning_rate=0.01, steps=8), "cpu")
    before = trainer.evaluate().activation
    for _ in range(8):
        trainer.advance()
    after = trainer.evaluate().activation
    assert sum(layer.mean for layer in after) < sum(layer.mean for layer in before)


def case(**changes) -> Case:
    plain = Case(
        implementation="seqboat", workload="text", length=32, batch=4, fill="real", precision="fp32",
        phase="train", hyperparameters="small", activation=None, backend="auto", seed=0,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def recipe(**changes) -> Recipe:
    return Recipe(**{"steps": 10, "batch": 4, "learning_rate": 0.1, "warm_up": 2, **changes})


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_schedule_rises_then_falls_to_nothing(schedule):
    rates = [recipe(schedule=schedule, warm_up=4).rate(step) for step in range(10)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:]))
    assert 0 < rates[-1] < 0.2


def test_state_spaces_learn_slowly_and_without_decay():
    slow = ParameterGroup(pattern=r"\.kernel\.A_real$", learning_rate=0.001)
    trainer = Trainer(case(implementation="s4"), recipe(slow=slow, weight_decay=0.1), "cpu")
    fast_group, slow_group = trainer.optimizer.param_groups
    assert len(slow_group["params"]) == 4
    assert (slow_group["highest_lr"], slow_group["weight_decay"]) == (0.001, 0.0)
    assert (fast_group["highest_lr"], fast_group["weight_decay"]) == (0.1, 0.1)


def test_other_forms_of_a_model_are_trained_once(write_suite):
    from bench.suites import reading as suites

    suite = suites.load(write_suite("transformer-sdpa", "seqboat", "seqboat-fused", fill="real"))
    assert models_of(suite, {}) == ["transformer-sdpa", "seqboat"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_step_and_a_second_one_does_not(number):
    before = signal.getsignal(number)
    with termination_interrupts(patient=True) as interruption:
        os.kill(os.getpid(), number)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def slow_training(write_suite, out: Path) -> tuple[str, list[str]]:
    """A suite of a slow model, and words of `bench train`: after its first checkpoint no other comes soon."""
    suite = write_suite(
        "fault_models:slow", training={"steps": 100_000, "batch": 2, "evaluate_every": 100_000}
    )
    words = ["train", "--suite", suite, "--out", str(out)]
    return suite, [*words, "--learning-rate", "0.01", "--device", "cpu", "--threads", "1"]


def has_gone_on(out: Path) -> Callable[[], bool]:
    """Whether its first checkpoint was there the last twenty times that it was asked."""
    found = itertools.count(1)
    return lambda: (out / "fault_models_slow.safetensors").exists() and next(found) > 20


def assert_kept(out: Path) -> None:
    """Every step that was made is in the checkpoint."""
    kept = read_training(out / "fault_models_slow.jsonl")
    assert kept.end.reason == "interrupted"
    assert checkpoints.read(out / "fault_models_slow.safetensors").step == kept.end.step > 0


def test_ctrl_c_keeps_the_work_and_says_how_to_go_on(tmp_path, write_suite):
    out = tmp_path / "out"
    suite, words = slow_training(write_suite, out)

    with ctrl_c(has_gone_on(out)):
        done = bench(*words)
    assert done.returncode == 130
    assert f"train --suite {suite} --out {out}" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].endswith("--resume")
    assert_kept(out)


def test_a_closed_terminal_costs_no_step(tmp_path, write_suite):
    """It sends SIGHUP, by way of a shell twice, and takes no more output."""
    out = tmp_path / "out"
    ours, terminal = pty.openpty()

    def read(seconds: float) -> None:
        while select.select([ours], [], [], seconds)[0]:
            os.read(ours, 1 << 16)

    _, words = slow_training(write_suite, out)
    command = [sys.executable, "-m", "bench.cli", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal)
    is_time = has_gone_on(out)
    while not is_time():
        assert process.poll() is None
        read(0.05)
    os.close(terminal)
    os.close(ours)
    for _ in range(2):
        process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == 130
    assert_kept(out)


@pytest.fixture
def trained(tmp_path, suite):
    train(ask(suite, tmp_path / "trained"))
    return tmp_path / "trained"


def test_which_cases_of_a_suite_are_trained(suite):
    from bench.suites import reading as suites

    overrides = {
        "implementations": ["s4", "seqboat", "seqboat-fused", "seqboat-full"], "baseline": "s4",
        "checkpoints": {"seqboat": "a.safetensors"}, "activation": [0.3],
    }  # fmt: skip
    cases = {item.implementation: item for item in suites.load(suite, overrides).cases("cpu")}
    assert [cases[name].checkpoint for name in cases] == [None, "a.safetensors", "a.safetensors", None]
    assert [cases[name].activation for name in cases] == [None, None, None, 0.3]
    assert all(item.held_out for item in cases.values())


def test_a_trained_model_is_timed_as_it_was_trained(tmp_path, suite, trained):
    file = trained / "seqboat.safetensors"
    overrides = {"implementations": ["seqboat", "seqboat-fused"], "baseline": "seqboat", "phase": "forward"}
    request = RunRequest(
        suite, tmp_path / "run.jsonl", overrides, device="cpu", threads=1, quick=True, checkpoints=(file,)
    )
    results = run(request).results
    timed = results.header.suite.cases("cpu")
    assert [item.fill for item in timed] == ["real", "real"]
    made = results.header.checkpoints["seqboat"]
    evaluation = read_training(trained / "seqboat.jsonl").evaluations[-1]
    assert (made.steps, made.accuracy) == (6, evaluation.accuracy)
    assert all(solo.status == "ok" for solo in results.solos.values())
    one, other = (results.solos[item.id].activation.by_layer for item in timed)
    assert one == pytest.approx(other, abs=0.02)

    from bench.views.tables.table import build_table

    table = build_table(results)
    assert [row.title for row in table.rows] == ["SeqBoat, trained", "SeqBoat (fused), trained"]
    footer = "\n".join(table.footer)
    assert f"weights of {file}, 6 of 6 steps of 3 sequences" in footer
    assert "activation as trained" in footer
    assert "held out of training" in footer


def test_the_worker_times_the_checkpoints_weights(trained):
    from bench.steps.step import build_model

    file = trained / "seqboat.safetensors"
    task = workloads.load("text").task(32)
    model = build_model(case(checkpoint=str(file)), task, torch.device("cpu"))
    weights = checkpoints.tensors_of(file, checkpoints.MODEL)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_checkpoints_that_do_not_fit_are_refused(tmp_path, suite, trained):
    def refused(words: str, path: Path = trained / "seqboat.safetensors", **overrides) -> None:
        request = RunRequest(suite, tmp_path / "run.jsonl", overrides, device="cpu", checkpoints=(path,))
        with pytest.raises(UsageError, match=words):
            run(request)

    refused("trained with length 32; the suite times 64", lengths=[64])
    own = {"checkpoints": {"seqboat": str(trained / "seqboat.safetensors")}, "lengths": [64]}
    with pytest.raises(UsageError, match="trained with length 32; the suite times 64"):
        run(RunRequest(suite, tmp_path / "run.jsonl", own, device="cpu"))
    refused("trained with hyperparameters small", hyperparameters="matched")
    other = checkpoints.read(trained / "seqboat.safetensors")
    elsewhere = msgspec.structs.replace(other, data="another text")
    tensors = checkpoints.tensors_of(trained / "seqboat.safetensors", "")
    checkpoints.write(tmp_path / "elsewhere.safetensors", elsewhere, tensors)
    refused("trained on another text; here the data is", tmp_path / "elsewhere.safetensors")
    refused("holds seqboat, which is not timed", implementations=["s4"], baseline="s4")
    refused("cannot be read as a checkpoint", tmp_path / "missing.safetensors")


def test_splits_are_disjoint_and_batches_as_before():
    for name, length in (("text", 64), ("image", 64), ("retrieval", 64), ("listops", 32), ("lm", 32)):
        workload = workloads.load(name)
        batches = [workload.batch(length, 64, "real", 0, 0, split) for split in ("train", "validation")]
        train_rows, validation_rows = ({row.tobytes() for row in batch.inputs} for batch in batches)
        assert len(train_rows) > 1
        assert not train_rows & validation_rows, name
        again = workload.batch(length, 64, "real", 0, 0, "validation")
        assert (again.inputs == batches[1].inputs).all()


def test_documents_fall_into_one_part_each():
    from bench.workloads import text

    corpus = text.corpus()
    train_part, validation = corpus.part("train"), corpus.part("validation")
    assert not set(train_part.documents) & set(validation.documents)
    assert len(train_part.documents) + len(validation.documents) == len(corpus.documents)
    assert 0.03 < len(validation.documents) / len(corpus.documents) < 0.2
    assert corpus.part("all") is corpus


def test_plain_lines_where_there_is_no_terminal():
    from io import StringIO

    from rich.console import Console

    from bench.training.display import TrainingBar

    stream = StringIO()
    evaluation = Evaluation(
        step=5, loss=0.5, accuracy=0.75, bits_per_character=None, chance_loss=0.69, chance_accuracy=0.5,
        sequences=8,
    )  # fmt: skip
    for kind, terminal in ((PlainTrainingDisplay, False), (TrainingBar, True)):
        with kind(Console(file=stream, force_terminal=terminal, width=100)) as display:
            display.begins("seqboat", 2, 10)
            display.stepped(3, 0.6)
            display.evaluated(evaluation, 0.55)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == [
        "seqboat: 8 steps, from step 2 on",
        "    step 5, training loss 0.550, validation 75.0% (chance 50.0%)",
    ]
    assert "3/10" in stream.getvalue()


PUBLISHED = [
    (item.name, task)
    for item in registry.catalogue().values()
    for task in item.training
    if schedule_of(item.system, task)
]


@pytest.mark.parametrize(("name", "task"), PUBLISHED, ids=lambda part: part)
def test_every_published_training_is_a_recipe(name, task):
    """At its own length it is the published one; each pattern finds the parameters that it is for."""
    item, schedule = registry.find(name), schedule_of(registry.find(name).system, task)
    steps = schedule.steps or 1000
    made = published_recipe(name, task, steps=steps)
    assert made.source == schedule.source
    assert made.batch == schedule.batch
    assert made.weight_decay == schedule.weight_decay
    assert made.learning_rate * made.rate(max(0, made.warm_up - 1)) == pytest.approx(schedule.highest_rate)
    if schedule.steps is not None:
        assert (made.warm_up, made.schedule_steps) == (schedule.warm_up, schedule.schedule_steps)
        assert made.scaled_from is None
    if made.groups():
        workload = workloads.load(WORKLOAD_OF.get(task, task))
        model = item.load()(workload.task(16), item.hyperparameters(task, "matched") | {"layers": 1})
        for group in made.groups():
            assert any(re.search(group.pattern, name) for name, _ in model.named_parameters())


WORKLOAD_OF = {"path_x": "path-x", "enwik8": "lm"}


def published_recipe(name: str, task: str, **changes) -> Recipe:
    suite = Suite(
        name="made-up", description="", workload=WORKLOAD_OF.get(task, task), lengths=[16],
        implementations=[name], baseline=name,
    )  # fmt: skip
    return make_recipe(name, suite, workloads.load(suite.workload), changes)


def test_a_shorter_training_has_the_published_shares():
    seqboat = published_recipe("seqboat", "text", steps=1000)
    assert (seqboat.warm_up, seqboat.scaled_from) == (400, "25000 steps")
    # The cosine of Liquid-S4 has its lowest point at a third of its training.
    liquid = published_recipe("liquid-s4", "text", steps=1563)
    assert liquid.schedule_steps == pytest.approx(500, abs=1)
    assert liquid.rate(500) < 1e-4
    assert liquid.rate(1000) > 0.9
    assert published_recipe("s5", "speech", steps=400).warm_up == 10
    assert published_recipe("seqboat", "text", steps=1000, warm_up=7).warm_up == 7


def test_rates_are_the_published_ones():
    path_x = published_recipe("seqboat", "path_x", steps=125_000)
    assert path_x.batch == 128
    assert path_x.rate(12_499) == pytest.approx(0.25)
    enwik8 = published_recipe("seqboat", "enwik8", steps=400_000)
    assert enwik8.optimizer == "radam"
    assert 5e-3 * enwik8.rate(0) == pytest.approx(2e-3, rel=1e-3)
    assert published_recipe("mega", "listops").learning_rate == 1e-3
    # 0.05 over the root of the step; the warm-up of Retrieval is longer than its training.
    listops = published_recipe("reformer", "listops", steps=5000)
    assert listops.learning_rate * listops.rate(3999) == pytest.approx(0.05 / math.sqrt(4000))
    assert published_recipe("reformer", "retrieval", steps=5000).rate(4999) == pytest.approx(5 / 8)


def test_groups_of_parameters_are_the_published_ones():
    """S5 on Path-X: B decays and learns at the rate of the state space; C learns at that of all."""
    trainer = Trainer(
        case(implementation="s5", workload="path-x", length=16, hyperparameters="matched"),
        published_recipe("s5", "path_x", steps=8),
        "cpu",
    )
    found = {
        (group["highest_lr"], group["weight_decay"]): len(group["params"])
        for group in trainer.optimizer.param_groups
    }
    assert set(found) == {(1.8e-3, 0.06), (6e-4, 0.0), (6e-4, 0.06)}
    layers = found[6e-4, 0.06]
    assert found[6e-4, 0.0] == 3 * layers
    text = published_recipe("s5", "text")
    assert not any(re.search(group.pattern, "layers.0.seq.log_step") for group in text.groups())


RATES = {"printing_bag:build": 0.01}
MODEL = """
from torch import nn


class Bag(nn.Module):
    def __init__(self, task):
        super().__init__()
        self.embedding = nn.Embedding(task.vocabulary, 4)
        self.out = nn.Linear(4, task.classes)

    def forward(self, inputs, lengths=None):
        print("within a step")
        return self.out(self.embedding(inputs).mean(dim=1))


def build(task, hyperparameters):
    return Bag(task)
"""


def test_an_edited_model_is_not_trained_on(tmp_path, write_suite, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "edited_bag.py"
    model.write_text(MODEL)
    suite = write_suite("edited_bag:build", training={"steps": 4, "batch": 2})
    assert train(ask(suite, tmp_path / "out", learning_rate=0.01)).complete
    assert train(ask(suite, tmp_path / "out", learning_rate=0.01, resume=True)).complete
    model.write_text(MODEL.replace("mean", "sum"))
    with pytest.raises(UsageError, match=r"was made before edited_bag:build changed \(another source\)"):
        train(ask(suite, tmp_path / "out", learning_rate=0.01, resume=True))


def test_what_a_model_prints_is_not_in_the_output(tmp_path, write_suite):
    (tmp_path / "printing_bag.py").write_text(MODEL)
    suite = write_suite("printing_bag:build", training={"steps": 2, "batch": 2, "learning_rate": RATES})
    done = bench("train", "--suite", suite, "--out", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "within a step" in done.stderr
    assert json.loads(done.stdout)


@pytest.mark.parametrize("place", ["build", "forward"])
def test_a_model_that_exits_costs_its_own_training_only(tmp_path, write_suite, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    begin = (
        "def build(task, hyperparameters):\n"
        if place == "build"
        else "    def forward(self, inputs, lengths=None):\n"
    )
    indent = "    " if place == "build" else "        "
    text = MODEL.replace(begin, f"{begin}{indent}raise SystemExit(0)\n")
    (tmp_path / f"exits_in_{place}.py").write_text(text)
    suite = write_suite(f"exits_in_{place}:build", "fault_models:tiny", training={"steps": 2, "batch": 2})
    exits, tiny = train(ask(suite, tmp_path / "out", learning_rate=0.01)).trainings
    assert (exits.end.reason, exits.end.detail) == ("error", "SystemExit: 0")
    assert tiny.finished


def test_all_settings_that_are_missing_are_named_at_once(tmp_path, write_suite):
    suite = write_suite("fault_models:tiny", training={"steps": 2})
    with pytest.raises(UsageError, match="give --learning-rate and --batch"):
        train(TrainRequest(suite, tmp_path / "out", {}, {}, "cpu", 1))
