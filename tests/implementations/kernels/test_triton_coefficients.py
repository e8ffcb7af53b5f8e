"""Coefficients of the damped EMA in one kernel each way, against the plain form."""

import pytest
import torch
from torch import Tensor

from implementations.ops.ema import DampedEMA

from .triton_oracle import DEVICE, numbers, poisoned

from implementations.kernels.triton.coefficients import coefficients, coefficients_backward  # isort: skip

DIM, STATES = 35, 3
NAMES = ("delta", "alpha", "beta", "gamma")


def ema(bidirectional: bool, delta: float | None, dtype: torch.dtype = torch.float64) -> DampedEMA:
    torch.manual_seed(0)
    made = DampedEMA(DIM, STATES, bidirectional)
    if delta is not None:
        torch.nn.init.normal_(made.delta, delta, 1.0)
        torch.nn.init.normal_(made.alpha, delta, 1.0)
    return made.to(DEVICE, dtype)


def parameters(made: DampedEMA) -> tuple[Tensor, ...]:
    return tuple(getattr(made, name) for name in NAMES)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("delta", [None, -12.0, -3.0, 3.0, 9.0])
def test_values_and_gradients(bidirectional: bool, delta: float | None) -> None:
    """q from 1 − 1e-10, where a logarithm of 1 − p·a would have lost its digits, down to 1e-5."""
    made = ema(bidirectional, delta)
    weight, log_decay = made.coefficients(torch.float64)
    directions = 2 if bidirectional else 1
    sums = numbers(directions, 2 * STATES + 1, DIM)
    of_weight, of_slope = (part.transpose(1, 2).flatten(0, 1) for part in sums[:, :-1].chunk(2, dim=1))
    expected = torch.autograd.grad(
        (weight, log_decay), parameters(made), (of_weight, of_slope * weight.detach())
    )
    with poisoned(), torch.no_grad():
        by = coefficients(parameters(made), made.omega, torch.float64)
        grads = coefficients_backward(parameters(made), sums)
    pairs = [(by.weight, weight), (by.log_decay, log_decay), (by.decay, log_decay.expm1())]
    for actual, plain in [*pairs, *zip(grads, expected, strict=True)]:
        assert actual.shape == plain.shape
        torch.testing.assert_close(actual, plain.detach(), rtol=1e-9, atol=0.0)


def test_gradients_of_half_precision_parameters_are_theirs() -> None:
    made = ema(True, None, torch.bfloat16)
    with torch.no_grad():
        by = coefficients(parameters(made), made.omega, torch.float32)
        grads = coefficients_backward(parameters(made), numbers(2, 2 * STATES + 1, DIM, dtype=torch.float32))
    assert by.weight.dtype == torch.float32
    torch.testing.assert_close(by.weight, made.coefficients()[0], rtol=1e-5, atol=0.0)
    assert [(g.shape, g.dtype) for g in grads] == [(p.shape, p.dtype) for p in parameters(made)]
