"""Relative errors of what has no direction, no size, or no number."""

import math

import pytest
import torch

from bench.steps.tolerance import relative_error


def test_a_relative_error_is_a_ratio_of_norms():
    assert relative_error(torch.tensor([3.0, 4.4]), torch.tensor([3.0, 4.0])) == pytest.approx(0.08)


def test_two_zeros_are_equal():
    assert relative_error(torch.zeros(3), torch.zeros(3)) == 0.0


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        (torch.full((3,), 1e-12), torch.zeros(3)),
        (torch.tensor([math.nan]), torch.ones(1)),
        (torch.ones(1), torch.tensor([math.nan])),
        (torch.tensor([math.inf]), torch.ones(1)),
        (torch.ones(2), torch.ones(3)),
    ],
)
def test_what_cannot_be_compared_differs_infinitely(ours, reference):
    assert math.isinf(relative_error(ours, reference))
