"""Dropout by gaps has the distribution of dropout."""

import math

import pytest
import torch
from torch import nn

from implementations.kernels.cpu.dropout import GapDropout, dropped_indices, use_gap_dropout

DEVIATIONS = 5.0
"""Distance of a sample mean from its expectation at most, in standard deviations."""


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5, 0.9])
def test_independent_drops_of_the_probability(probability: float) -> None:
    torch.manual_seed(0)
    count, repeats = 1000, 400
    masks = torch.zeros(repeats, count, dtype=torch.float64)
    for mask in masks:
        indices = dropped_indices(count, probability)
        assert indices.numel() == indices.unique().numel()
        mask[indices] = 1.0
    variance = probability * (1.0 - probability)
    total = DEVIATIONS * math.sqrt(variance / masks.numel())
    assert masks.mean().item() == pytest.approx(probability, abs=total)
    # At every place, the first and the last too, and next to another one.
    assert (masks.mean(dim=0) - probability).abs().max().item() < (DEVIATIONS + 1) * math.sqrt(
        variance / repeats
    )
    neighbours = (masks[:, 1:] * masks[:, :-1]).mean().item()
    spread = math.sqrt(3 * probability**2 * (1 - probability**2) / masks.numel())
    assert neighbours == pytest.approx(probability**2, abs=DEVIATIONS * spread)
    # The number of drops in a row of elements has the variance of a binomial one.
    assert masks.sum(dim=1).var().item() == pytest.approx(
        count * variance, rel=DEVIATIONS * math.sqrt(2 / repeats)
    )


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_elements(count: int) -> None:
    torch.manual_seed(0)
    share = sum(dropped_indices(count, 0.3).numel() for _ in range(3000)) / (3000 * count)
    assert share == pytest.approx(0.3, abs=DEVIATIONS * math.sqrt(0.21 / (3000 * count)))


def test_all() -> None:
    assert dropped_indices(4, 1.0).tolist() == [0, 1, 2, 3]
    assert torch.equal(GapDropout(1.0)(torch.ones(4)), torch.zeros(4))


def test_scale_gradient_and_evaluation() -> None:
    torch.manual_seed(0)
    dropout, x = GapDropout(0.25), torch.ones(40, 50).t().requires_grad_()
    y = dropout(x)
    torch.testing.assert_close(y.unique(), torch.tensor([0.0, 4 / 3]))
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, y)
    assert dropout.eval()(x) is x


def test_replaces_dropout_everywhere() -> None:
    model = use_gap_dropout(nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2))))
    assert [m.p for m in model.modules() if isinstance(m, GapDropout)] == [0.1, 0.2]
    assert [type(m) for m in model.modules() if isinstance(m, nn.Dropout)] == [GapDropout, GapDropout]


def test_drawn_from_the_global_generator() -> None:
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append(dropped_indices(100, 0.2))
    assert torch.equal(*draws)
