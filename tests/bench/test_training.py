"""Training: what resumes exactly, what is recorded, what is refused."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench import workloads
from bench.case import Case
from bench.errors import UsageError
from bench.record import Store, read
from bench.session import Request as RunRequest
from bench.session import run
from bench.training import checkpoint as checkpoints
from bench.training import summary
from bench.training.display import PlainDisplay
from bench.training.interrupts import Interrupts
from bench.training.recipe import Recipe
from bench.training.record import Evaluation, read_training
from bench.training.session import Request, models_of, train
from bench.training.trainer import Trainer, entropy

pytestmark = pytest.mark.usefixtures("plug_ins")

SMALL = {"steps": 6, "batch": 3, "evaluate_every": 3, "validation_sequences": 5}


@pytest.fixture(autouse=True)
def random_state():
    """Tests train in this process; the others must not notice."""
    with torch.random.fork_rng():
        yield


def ask(suite: str, out: Path, *, resume: bool = False, overrides=None, **changes) -> Request:
    return Request(suite, out, overrides or {}, {**SMALL, **changes}, "cpu", 1, resume)


class StopAt:
    """Interrupts that come before a given step."""

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


@pytest.mark.parametrize("name", ["seqboat", "seqboat-fused", "s4", "reformer", "transformer"])
@pytest.mark.parametrize("stop", [3, 4])
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
