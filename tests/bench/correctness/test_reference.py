"""The gate of `bench run`: planted faults are found in every system and phase, and nothing else is."""

import functools

import msgspec
import pytest
import torch

from bench.correctness import samples
from bench.correctness.reference import Forms, compare_with_reference
from bench.records.solo import Variant
from bench.steps.decoding import open_step
from bench.steps.step import Step
from bench.steps.tolerance import OUTPUT_BOUND
from bench.suites.case import Case, Phase, Precision
from implementations import registry
from implementations.fused.mega import FusedGatedAttention
from implementations.fused.seqboat import FusedSeqBoatLayer

from ..plants import BY_SYSTEM, SCORES, Plant, at, gradient, parameters, result, times, zero

LAYERS = {"seqboat": FusedSeqBoatLayer, "mega": FusedGatedAttention}
CASES = [
    *((name, "text") for name in BY_SYSTEM),
    *(
        (name, task)
        for name in ("seqboat-fused", "mega-chunk-fused")
        for task in ("image", "retrieval", "speech")
    ),
]


@pytest.fixture(autouse=True)
def two_layers(monkeypatch):
    monkeypatch.setitem(registry.SIZES, "small", (2, 32))


@functools.cache
def step_of(
    name: str,
    workload: str,
    phase: Phase = "train",
    precision: Precision = "fp32",
    activation: float = 0.5,
    length: int = 64,
) -> Step:
    case = Case(
        implementation=name,
        workload=workload,
        length=length,
        batch=1,
        fill="full",
        precision=precision,
        phase=phase,
        hyperparameters="small",
        activation=activation if name.startswith("seqboat") else None,
        backend="auto",
        seed=0,
    )
    step = open_step(case, "cpu")
    step.calibrate()
    return step


def checked(step: Step, plant: Plant | None = None) -> Variant:
    if plant is None:
        return compare_with_reference(step)
    with plant(LAYERS[step.case.implementation.split("-")[0]]):
        return compare_with_reference(step)


@pytest.mark.parametrize(("name", "workload"), CASES)
def test_a_fused_model_agrees_with_its_reference(name, workload):
    found = checked(step_of(name, workload))
    assert found.agrees, found
    assert 0 < found.output_error < OUTPUT_BOUND["fp32"]
    assert found.gradient_error > 0
    assert found.seconds > 0


@pytest.mark.parametrize(("name", "workload"), CASES)
def test_every_planted_fault_is_found(name, workload):
    step = step_of(name, workload)
    assert [fault for fault, plant in BY_SYSTEM[name].items() if checked(step, plant).agrees] == []


@pytest.mark.parametrize("phase", ["forward", "decode"])
@pytest.mark.parametrize("name", ["seqboat-fused", "mega-chunk-fused"])
def test_faults_are_found_in_every_phase(name, phase):
    step = step_of(name, "lm", phase)
    found = checked(step)
    assert found.agrees, found
    assert found.worst_gradient == ""
    faults = {"scores": SCORES["attention ignores queries and keys"], "result": result(times(1.001))}
    assert [fault for fault, plant in faults.items() if checked(step, plant).agrees] == []


@pytest.mark.parametrize("precision", ["bf16-pure", "fp64"])
@pytest.mark.parametrize("name", ["seqboat-fused", "mega-chunk-fused"])
def test_real_numbers_are_compared_in_the_precision_that_is_timed(name, precision):
    """The pair's inputs too: in half precision a model takes no others."""
    assert checked(step_of(name, "image", precision=precision)).agrees


def test_attention_is_seen_at_a_rate_at_which_rows_of_the_pair_have_a_step_or_none():
    step = step_of("seqboat-fused", "text", activation=0.001, length=600)
    assert checked(step).agrees
    assert not checked(step, SCORES["attention ignores queries and keys"]).agrees


@pytest.mark.parametrize("name", ["seqboat-fused", "mega-chunk-fused"])
def test_in_bfloat16_a_part_of_a_gradient_is_missed(name):
    """Half of one passed for rounding, and so did a tile of attention that adds nothing to a bias."""
    step = step_of(name, "text", precision="bf16")
    found = checked(step)
    assert found.agrees, found
    plants = {name: parameters(gradient(0.6), name) for name in ("mx_proj.bias", "rel_pos_bias.rel_pos_bias")}
    assert [fault for fault, plant in plants.items() if checked(step, plant).agrees] == []


def test_a_fault_beyond_the_pair_is_found_on_the_cases_own_batch(monkeypatch):
    monkeypatch.setattr(samples, "PAIR_LENGTH", 40)
    found = checked(step_of("mega-fused", "text"), result(at((slice(None), slice(50, 51)), zero)))
    assert not found.agrees
    assert found.sample == "on its own batch"


def test_a_comparison_leaves_the_model_that_is_timed_as_it_was():
    step = step_of("seqboat-fused", "image")
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    checked(step)
    assert step.model.training
    assert all(torch.equal(before[name], value) for name, value in step.model.state_dict().items())
    assert all(parameter.grad is None for parameter in step.model.parameters())


def test_sequences_of_a_pair_have_unequal_lengths_and_real_padding():
    sample = samples.pair_sample(step_of("seqboat-fused", "text"))
    long, short = sample.lengths.tolist()
    assert (len(sample.inputs), sample.inputs.shape[1]) == (2, long)
    assert short < long
    assert not sample.inputs[1, short:].any()
    assert sample.inputs[0].all()


def test_moved_weights_let_every_parameter_count():
    step = step_of("mega-chunk-fused", "text")
    model = step.model
    before = {name: value.clone() for name, value in model.named_parameters()}
    try:
        samples.move(model)
        still = [name for name, value in model.named_parameters() if torch.equal(before[name], value)]
    finally:
        model.load_state_dict(before, strict=False)
    assert still == ["pool.encoder.embedding.weight"]


def test_settled_thresholds_lie_in_gaps_at_the_rate_that_was():
    step = step_of.__wrapped__("seqboat-fused", "text")
    model, sample = step.model.eval(), samples.own_sample(step)
    rates = []
    for _ in range(2):
        with torch.no_grad():
            model(sample.inputs, sample.lengths)
        rates.append(step.activation_rates())
        samples.settle(model, sample)
    assert rates[1] == pytest.approx(rates[0], abs=0.02)


@pytest.fixture
def little_memory(monkeypatch):
    """A reference that takes too much memory for more than 128 time steps, and what it was asked for."""
    asked = []

    def compare(self, sample, zeros, exact=None):
        asked.append(tuple(sample.inputs.shape))
        if sample.inputs.numel() > 128:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")
        return own(self, sample, zeros, exact)

    own = Forms.compare
    monkeypatch.setattr(Forms, "compare", compare)
    monkeypatch.setattr(samples, "PAIR_LENGTH", 32)
    return asked


def longer(length: int, batch: int) -> Step:
    case = msgspec.structs.replace(step_of("seqboat-fused", "text").case, length=length, batch=batch)
    return open_step(case, "cpu")


def test_a_reference_that_does_not_fit_is_compared_on_what_does(little_memory):
    found = compare_with_reference(longer(256, 3))
    assert little_memory == [(2, 32), (3, 256), (1, 256), (1, 128)]
    assert (found.agrees, found.whole, found.sample) == (True, False, "on 1 × 128 time steps")
    assert compare_with_reference(longer(64, 1)).whole


def test_a_fault_is_found_on_what_fits(little_memory, monkeypatch):
    """One that only longer sequences than those of the pair have."""
    monkeypatch.setattr(samples, "PAIR_LENGTH", 16)
    step = longer(512, 1)
    forward = step.model.forward
    step.model.forward = lambda inputs, lengths: forward(inputs, lengths) * (1 + (inputs.shape[-1] > 32))
    found = compare_with_reference(step)
    assert (found.agrees, found.sample) == (False, "on 1 × 128 time steps")


def test_a_reference_without_memory_for_anything_is_out_of_memory(little_memory, monkeypatch):
    monkeypatch.setattr(samples, "smaller_samples", lambda step: iter(()))
    monkeypatch.setattr("bench.correctness.reference.smaller_samples", lambda step: iter(()))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        compare_with_reference(longer(256, 1))
