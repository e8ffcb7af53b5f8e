import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from implementations.ops.sma import (
    ActiveSteps,
    choose_steps,
    compress,
    compressed_steps,
    extract,
    sparse_modular_activation,
    steps_in_place,
)


@st.composite
def masks(draw: st.DrawFn) -> Tensor:
    batch, length = draw(st.integers(1, 4)), draw(st.integers(1, 14))
    bits = draw(st.lists(st.booleans(), min_size=batch * length, max_size=batch * length))
    return torch.tensor(bits).view(batch, length)


def states(active: Tensor, dim: int = 3) -> Tensor:
    """Distinct numbers, none of them zero."""
    return torch.arange(1.0, active.numel() * dim + 1, dtype=torch.float64).view(*active.shape, dim)


def identity(x: Tensor, steps: ActiveSteps) -> Tensor:
    return x


@given(masks())
def test_extract_of_compress_restores_active_positions(active: Tensor) -> None:
    x = states(active)
    for steps in (compressed_steps(active), steps_in_place(active), choose_steps(active)):
        restored = extract(compress(x, steps), steps)
        assert torch.equal(restored, x * active.unsqueeze(-1))


@given(masks())
def test_compress_moves_active_steps_to_the_front_in_order(active: Tensor) -> None:
    x = states(active)
    steps = compressed_steps(active)
    compressed = compress(x, steps)
    counts = active.sum(dim=1)
    assert compressed.shape[1] == steps.positions.shape[1] == max(1, int(counts.max()))
    for row, count in enumerate(counts.tolist()):
        assert torch.equal(compressed[row, :count], x[row, active[row]])
        assert torch.equal(steps.positions[row, :count], active[row].nonzero().squeeze(-1))
        assert not compressed[row, count:].any()
        assert steps.valid[row].sum() == count
        assert steps.valid[row, :count].all()


@given(masks(), st.integers(0, 2**31))
def test_activation_of_an_identity_is_linear_in_its_confidence(active: Tensor, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    one, two = torch.randn(2, *active.shape, generator=generator, dtype=torch.float64)
    x, steps = states(active), compressed_steps(active)

    def activate(confidence: Tensor) -> Tensor:
        return sparse_modular_activation(x, steps, confidence, identity)

    torch.testing.assert_close(activate(2.0 * one - two), 2.0 * activate(one) - activate(two))
    torch.testing.assert_close(activate(one), x * (one * active).unsqueeze(-1))


def test_actions_and_confidences_reach_every_combination_of_every_subset_of_modules() -> None:
    """The function space theorem (theorem 1): for any subset of M modules and any coefficients, some actions
    and confidences make the sum of sparsely activated modules the linear combination of that subset."""
    torch.manual_seed(0)
    length, dim = 6, 4
    x = torch.randn(1, length, dim, dtype=torch.float64)
    layers = [nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, dim)).double() for _ in range(3)]
    with torch.no_grad():
        dense = [layer(x) for layer in layers]
        for subset in itertools.product([False, True], repeat=3):
            coefficients = torch.randn(3, dtype=torch.float64) * torch.tensor(subset)
            reached = torch.zeros_like(x)
            for layer, chosen, coefficient in zip(layers, subset, coefficients, strict=True):
                steps = compressed_steps(torch.full((1, length), chosen))
                confidence = coefficient.expand(1, length)
                reached += sparse_modular_activation(x, steps, confidence, lambda m, _, f=layer: f(m))
            expected = sum(c * y for c, y in zip(coefficients, dense, strict=True))
            torch.testing.assert_close(reached, expected)


def test_each_step_may_choose_its_own_subset_and_coefficients() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 8, 3, dtype=torch.float64)
    layers = [nn.Linear(3, 3).double() for _ in range(3)]
    actions = torch.rand(3, 2, 8) < 0.5
    confidences = torch.randn(3, 2, 8, dtype=torch.float64)
    reached = sum(
        sparse_modular_activation(x, compressed_steps(action), confidence, lambda m, _, f=layer: f(m))
        for layer, action, confidence in zip(layers, actions, confidences, strict=True)
    )
    for row, step in itertools.product(range(2), range(8)):
        weights = confidences[:, row, step] * actions[:, row, step]
        expected = sum(w * layer(x[row, step]) for w, layer in zip(weights, layers, strict=True))
        torch.testing.assert_close(reached[row, step], expected)


def test_the_densest_row_decides_for_the_batch() -> None:
    active = torch.tensor([[True, False, False, False], [True, True, True, False]])
    assert choose_steps(active).compressed
    assert choose_steps(active, dense=0.76).compressed
    assert not choose_steps(active, dense=0.75).compressed
    active[1, 3] = True
    steps = choose_steps(active)
    assert not steps.compressed
    assert torch.equal(steps.valid, active)
    assert steps.positions.tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_gradients(rate: float) -> None:
    torch.manual_seed(2)
    active = torch.rand(3, 7) < rate
    active[0] = rate == 1.0  # where the others are active, one row is not
    steps = compressed_steps(active)
    x = torch.randn(3, 7, 2, dtype=torch.float64, requires_grad=True)
    h = torch.randn(3, steps.positions.shape[1], 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: compress(x, steps), x)
    assert torch.autograd.gradcheck(lambda h: extract(h, steps), h)
