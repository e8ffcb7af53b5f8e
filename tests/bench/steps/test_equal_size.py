"""Models of a wanted number of parameters, as a step builds them."""

import msgspec
import pytest
import torch
from torch import nn

from bench import workloads
from bench.steps import equal_size
from bench.steps.step import Step, build_model
from bench.suites import reading as suites
from implementations.encoder import parameter_count
from implementations.equal_sizes import TOLERANCE, NoEqualSize

CASE = msgspec.structs.replace(
    suites.load("ci").cases("cpu")[0], activation=None, length=64, hyperparameters="params:100K"
)
HERE = __name__
MADE: dict[int, torch.Tensor] = {}


class Wide(nn.Module):
    def __init__(self, task, dim):
        super().__init__()
        self.embedding = nn.Embedding(task.vocabulary, dim)
        self.hidden = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, task.classes)

    def forward(self, inputs, lengths=None):
        return self.out(self.hidden(self.embedding(inputs)).mean(dim=1))


def wide(task, hyperparameters):
    return Wide(task, hyperparameters.get("dim", 8))


def strict(task, hyperparameters):
    return Wide(task, **hyperparameters)


def deaf(task, hyperparameters):
    return Wide(task, 8)


def remembers(task, hyperparameters):
    """Keeps what it made for one model, and reads it when it makes the next."""
    dim = hyperparameters["dim"]
    scale = MADE.setdefault(dim, torch.ones(dim))
    model = Wide(task, dim)
    with torch.no_grad():
        model.hidden.weight.mul_(float(scale.sum()) / dim)
    return model


def constant(task, hyperparameters):
    hyperparameters["dim"]
    return Wide(task, 8)


def needs_a_package(task, hyperparameters):
    raise NotImplementedError("flying carpets are not installed")


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(equal_size, "_found", {})


def case(implementation, **changes):
    name = implementation if "-" in implementation or "(" in implementation else f"{HERE}:{implementation}"
    return msgspec.structs.replace(CASE, implementation=name, **changes)


@pytest.mark.parametrize("name", ["wide", "strict", "remembers", "seqboat-fused", "seqboat(layers=2)"])
def test_a_step_has_as_many_parameters_as_are_wanted(name):
    step = Step(case(name), "cpu")
    assert parameter_count(step.model) == pytest.approx(100_000, rel=TOLERANCE)
    assert step.width
    step()
    assert step.not_finite() is None
    assert not MADE or not MADE.popitem()[1].is_meta


def test_another_form_has_the_same_width():
    fused, plain = (Step(case(name), "cpu") for name in ("seqboat-fused", "seqboat(window=128)"))
    assert fused.width == plain.width


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deaf", "params:100K: the model never asks for `dim`"),
        (
            "constant",
            "no width gives it that many parameters within 3%; the nearest are 2,146 at a ",
        ),
        ("needs_a_package", "params:100K: flying carpets are not installed"),
        ("seqboat(dim=32)", "the nearest are 62,124 at a width of 32, which is set by hand"),
        ("mamba2(head_dim=1000)", "it can't be built at any width; the last failure: ValueError: heads of"),
    ],
)
def test_what_cannot_have_them_says_why(name, words):
    subject = case(name)
    task = workloads.load(subject.workload).task(subject.length)
    with pytest.raises(NoEqualSize) as caught:
        build_model(subject, task, torch.device("cpu"))
    assert words in str(caught.value)
