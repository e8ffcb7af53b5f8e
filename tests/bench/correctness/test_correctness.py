"""What the gate calls equal: gradients that are rounding, and gradients that are not."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.correctness import reference as correctness
from bench.correctness.reference import (
    GRADIENT_FACTOR,
    OUTPUT_BOUND,
    _as_near,
    _gradient_errors,
    compare_with_reference,
)
from bench.steps.step import Step
from bench.suites.case import Case
from implementations.fused import seqboat_cpu as seqboat

ALLOWED = OUTPUT_BOUND["fp32"] * GRADIENT_FACTOR


def errors(theirs: list[float], ours: list[float]) -> list[float]:
    """Of gradients of one element each."""
    names = [str(number) for number in range(len(theirs))]
    tensors = [
        dict(zip(names, map(torch.tensor, ([v] for v in values)), strict=True)) for values in (ours, theirs)
    ]
    return list(_gradient_errors(*tensors).values())


def test_rounding_of_a_zero_gradient_is_no_difference():
    assert errors([1.0, 1e-7], [1.0, -2e-7])[1] < ALLOWED


def test_a_small_gradient_that_is_wrong_is_found():
    assert errors([1.0, 2e-3], [1.0, 2.2e-3])[1] == pytest.approx(0.1, rel=1e-3)


def test_a_gradient_where_none_should_be_is_found():
    assert errors([1.0, 0.0], [1.0, 1e-2])[1] > 10 * ALLOWED


def test_a_nan_is_a_difference():
    assert math.isinf(errors([1.0, 0.0], [1.0, math.nan])[1])


@pytest.fixture
def pixels() -> Step:
    """One sequence through batch norms and a mean over time."""
    case = Case(
        implementation="seqboat-fused",
        workload="image",
        length=256,
        batch=1,
        fill="full",
        precision="fp32",
        phase="train",
        hyperparameters="small",
        activation=0.3,
        backend="cpu",
        seed=0,
    )
    step = Step(case, "cpu")
    step.calibrate()
    return step


def test_one_sequence_through_batch_norms_is_compared(pixels):
    found = compare_with_reference(pixels)
    assert found.agrees
    assert 0 < found.output_error < OUTPUT_BOUND["fp32"]


def test_one_sequence_through_batch_norms_hides_no_difference(pixels, monkeypatch):
    larger = SimpleNamespace(silu=lambda x: F.silu(x) * 1.01)
    monkeypatch.setattr(seqboat, "F", larger)
    assert not compare_with_reference(pixels).agrees


@pytest.fixture
def doubtful(pixels, monkeypatch) -> Step:
    """A fused model whose outputs and gradients float64 has to clear, since none may differ in float32."""
    monkeypatch.setitem(correctness.OUTPUT_BOUND, "fp32", 1e-12)
    return pixels


def test_float64_clears_a_model_that_only_rounds_otherwise(doubtful):
    assert compare_with_reference(doubtful).agrees


def test_float64_clears_no_output_that_is_wrong(doubtful, monkeypatch):
    evaluate = correctness._evaluate

    def wrong(model: nn.Module, step: Step) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits, gradients = evaluate(model, step)
        fused = model is step.model and step.case.precision == "fp32"
        return logits * 1.001 if fused else logits, gradients

    monkeypatch.setattr(correctness, "_evaluate", wrong)
    assert not compare_with_reference(doubtful).agrees


def test_float64_clears_no_gradient_that_is_wrong(doubtful, monkeypatch):
    evaluate = correctness._evaluate

    def one_wrong(model: nn.Module, step: Step) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits, gradients = evaluate(model, step)
        if model is step.model and step.case.precision == "fp32":
            gradients["head.projection.weight"] = gradients["head.projection.weight"] * 1.01
        return logits, gradients

    monkeypatch.setattr(correctness, "_evaluate", one_wrong)
    found = compare_with_reference(doubtful)
    assert (found.agrees, found.worst_gradient) == (False, "head.projection.weight")


def test_float64_clears_nothing_where_the_reference_computes_something_else_in_it(doubtful, monkeypatch):
    monkeypatch.setattr(correctness, "FLOAT64_BOUND", 0.0)
    assert not compare_with_reference(doubtful).agrees


def test_float64_tells_rounding_from_difference():
    exact = {"large": torch.tensor([1.0]).double(), "none": torch.tensor([0.0]).double()}
    theirs = {"large": torch.tensor([1.002]), "none": torch.tensor([1e-5])}
    near = {"large": torch.tensor([0.995]), "none": torch.tensor([-1e-3])}
    far = {"large": torch.tensor([1.01]), "none": torch.tensor([3e-3])}
    assert _as_near(near, theirs, exact) == {"large", "none"}
    assert _as_near(far, theirs, exact) == set()


def test_a_gradient_that_is_not_a_number_is_near_nothing():
    exact = {"one": torch.tensor([1.0]).double()}
    assert _as_near({"one": torch.tensor([math.nan])}, {"one": torch.tensor([1.0])}, exact) == set()
