"""What the gate calls equal: gradients that are rounding, and gradients that are not."""

import math

import pytest
import torch

from bench.correctness import GRADIENT_FACTOR, OUTPUT_BOUND, _gradient_errors

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
