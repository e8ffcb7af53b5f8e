"""The rule of the gate: what is rounding, and what is not."""

import math

import pytest
import torch
from torch import Tensor

from bench.correctness.agreement import compare, gradient_bound, only_rounds, row_error, worst
from bench.correctness.evaluation import Computed
from bench.steps.tolerance import LOOSE_GRADIENT_BOUND, OUTPUT_BOUND

ALLOWED = gradient_bound("weight", OUTPUT_BOUND["fp32"])


def computed(logits: float = 1.0, **gradients: float | list[float]) -> Computed:
    rows = {name: torch.tensor([value]).reshape(1, -1) for name, value in gradients.items()}
    return Computed({"logits": torch.tensor([[logits]])}, rows)


def wrong(ours: Computed, theirs: Computed, exact: Computed | None = None, **options) -> set[str]:
    """Names of what disagrees; exact: by default what the reference has, so that it does not round."""
    found = compare(ours, theirs, lambda: exact or theirs, "fp32", **options)
    every = {**found.outputs, **found.gradients}
    assert found.agrees == all(difference.agrees for difference in every.values())
    return {name for name, difference in every.items() if not difference.agrees}


def test_a_gradient_is_measured_by_itself_however_small_it_is():
    assert wrong(computed(large=1.0, small=1.01e-7), computed(large=1.0, small=1e-7)) == {"small"}


def test_a_gradient_within_its_bound_agrees_without_float64():
    def never() -> Computed:
        pytest.fail("float64 was asked")

    theirs = computed(weight=1.0, temp=1.0)
    ours = computed(weight=1.0 + ALLOWED / 2, temp=1.0 + LOOSE_GRADIENT_BOUND / 2)
    assert compare(ours, theirs, never, "fp32").agrees


def test_float64_clears_what_is_ten_times_as_far_off_as_the_reference_and_no_more():
    theirs, exact = computed(weight=1.002), computed(weight=1.0)
    assert wrong(computed(weight=0.985), theirs, exact) == set()
    assert wrong(computed(weight=0.975), theirs, exact) == {"weight"}


@pytest.mark.parametrize("precision", ["bf16", "bf16-pure", "fp16", "tf32"])
def test_a_part_of_a_gradient_is_not_rounding_in_any_precision(precision):
    """A tenth of it is missing, or it is as far off as the reference's own rounding."""

    def agrees(weight: float, theirs: float) -> bool:
        ours, reference, exact = (computed(weight=[value] * 2) for value in (weight, theirs, 1.0))
        return compare(ours, reference, lambda: exact, precision).agrees

    assert not agrees(0.9, 1.001)
    assert agrees(0.9, 1.02)
    assert agrees(0.97, 1.0)


def test_float64_clears_nothing_if_the_reference_computes_something_else_in_it():
    theirs, exact = computed(weight=1.002), computed(logits=1.02, weight=1.0)
    assert wrong(computed(weight=0.985), theirs, exact) == {"weight"}


def test_an_analytically_zero_gradient_may_be_other_rounding_but_not_a_gradient():
    exact = computed(large=1.0, bias=0.0)
    zeros = frozenset({"bias"})
    theirs = computed(large=1.0, bias=1e-6)
    assert wrong(computed(large=1.0, bias=-9e-6), theirs, exact, zeros=zeros) == set()
    assert wrong(computed(large=1.0, bias=2e-5), theirs, exact, zeros=zeros) == {"bias"}
    assert wrong(computed(large=1.0, bias=math.nan), theirs, exact, zeros=zeros) == {"bias"}


def test_rounding_of_a_single_number_in_half_precision_is_one_draw():
    exact = computed(weight=1.0)
    assert compare(computed(weight=0.7), computed(weight=1.001), lambda: exact, "bf16").agrees
    assert not compare(computed(weight=0.4), computed(weight=1.001), lambda: exact, "bf16").agrees


def test_a_reference_in_half_precision_may_be_far_from_its_float64():
    theirs, exact = computed(logits=1.2, weight=1.3), computed()
    exact.gradients["weight"] = torch.tensor([[1.0]])
    assert compare(computed(logits=1.01, weight=1.0), theirs, lambda: exact, "bf16-pure").agrees
    assert not compare(computed(logits=1.01, weight=1.0), theirs, lambda: exact, "fp32").agrees


def test_a_gradient_that_was_zero_on_another_sample_only_is_a_gradient():
    zeros, theirs = frozenset({"bias"}), computed(large=1.0, bias=0.1)
    for value in (0.0, -0.1, 0.9):
        assert wrong(computed(large=1.0, bias=value), theirs, zeros=zeros) == {"bias"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_reference_that_overflows_forgives_nothing(value):
    assert wrong(computed(weight=5.0), computed(weight=value), computed(weight=1.0)) == {"weight"}


def test_the_loose_bound_is_for_two_parameters_and_not_for_what_begins_like_them():
    strict = gradient_bound("weight", 1e-4)
    for name in ("layers.0.configurator.temp", "layers.0.rel_pos_bias.rel_pos_bias", "temp"):
        assert gradient_bound(name, 1e-4) > strict
    for name in ("temporal.weight", "template", "layers.0.temporal_conv.bias"):
        assert gradient_bound(name, 1e-4) == strict


def test_float64_tells_which_gradients_are_analytically_zero():
    assert computed(large=1.0, small=1e-7, bias=1e-17).zeros() == {"bias"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_is_wrong(value):
    assert wrong(computed(weight=value), computed(weight=1.0)) == {"weight"}
    assert wrong(computed(weight=1.0), computed(weight=value)) == {"weight"}
    assert wrong(computed(logits=value), computed()) == {"logits"}


def test_a_gradient_where_the_reference_has_none_is_wrong():
    assert wrong(computed(unused=1e-12), computed(unused=0.0)) == {"unused"}
    assert wrong(computed(unused=0.0), computed(unused=0.0)) == set()


def test_one_wrong_row_of_many_is_not_averaged_away():
    reference = torch.ones(4096, 8)
    ours = reference.clone()
    ours[-1] *= 1.01
    assert row_error(ours, reference) == pytest.approx(0.01, rel=1e-3)


def test_a_row_of_little_is_measured_by_the_others():
    """Else rounding of a row that is next to nothing would be a difference."""
    reference = torch.cat([torch.ones(9, 4), torch.full((1, 4), 1e-9)])
    assert row_error(reference + 1e-7, reference) < 1e-6


def test_tensors_of_other_shapes_differ():
    assert math.isinf(row_error(torch.ones(2, 3), torch.ones(3, 2)))


def test_rounding_is_compared_by_the_worst_row():
    exact = torch.ones(3, 2, dtype=torch.float64)
    reference = exact + 1e-6

    def off(by: float) -> Tensor:
        ours = exact.clone()
        ours[1] += by
        return ours

    assert only_rounds(off(9e-6), reference, exact)
    assert not only_rounds(off(2e-5), reference, exact)


def test_the_worst_is_one_that_disagrees():
    theirs = computed(temp=1.0, weight=1.0)
    found = compare(computed(temp=1.009, weight=1.0011), theirs, lambda: theirs, "fp32")
    assert worst(found.gradients) == "weight"
    assert worst({}) == ""
