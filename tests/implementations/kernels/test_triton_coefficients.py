"""Coefficients of the damped EMA in one kernel each way, against the plain form."""

import pytest
import torch
from torch import Tensor

from implementations.ops.ema import DampedEMA

from .triton_oracle import DEVICE, numbers, poisoned

from implementations.kernels.triton.coefficients import (  # isort: skip
    coefficients,
    coefficients_backward,
    width_of_sums,
)
from implementations.kernels.triton.chunks import Average, Chunks  # isort: skip

DIM, STATES = 3, 3
LENGTH, TAPS = 90, 41
NAMES = ("delta", "alpha", "beta", "gamma")


def ema(bidirectional: bool, delta: float | None, dtype: torch.dtype = torch.float64) -> DampedEMA:
    torch.manual_seed(0)
    made = DampedEMA(DIM, STATES, bidirectional, TAPS)
    if delta is not None:
        torch.nn.init.normal_(made.delta, delta, 1.0)
        torch.nn.init.normal_(made.alpha, delta, 1.0)
    return made.to(DEVICE, dtype)


def chunks_of(bidirectional: bool) -> Chunks:
    return Chunks.of(Average(bidirectional, TAPS, chunk=16), LENGTH)


def parameters(made: DampedEMA) -> tuple[Tensor, ...]:
    return tuple(getattr(made, name) for name in NAMES)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("delta", [None, -12.0, -3.0, 3.0, 9.0])
def test_values_and_gradients(bidirectional: bool, delta: float | None) -> None:
    """q from 1 − 1e-10, where a logarithm of 1 − p·a would have lost its digits, down to 1e-5."""
    made, chunks = ema(bidirectional, delta), chunks_of(bidirectional)
    weight, log_decay = made.coefficients(torch.float64)
    sums = torch.zeros(DIM, 1, width_of_sums(chunks, STATES), dtype=torch.float64, device=DEVICE)
    of_states = sums[:, 0, chunks.matrices * 2 * chunks.block : -1].view(DIM, chunks.directions, 2, -1)
    of_states[..., :STATES] = numbers(DIM, chunks.directions, 2, STATES)
    sums[..., -1] = numbers(DIM, 1)
    of_weight, of_slope = of_states[..., :STATES].permute(2, 1, 0, 3).flatten(1, 2)
    expected = torch.autograd.grad(
        (weight, log_decay), parameters(made), (of_weight, of_slope * weight.detach())
    )
    with poisoned(), torch.no_grad():
        by = coefficients(parameters(made), made.omega, chunks, torch.float64)
        *grads, of_omega = coefficients_backward(parameters(made), by, chunks, sums)
    pairs = [(by.weight, weight), (by.log_decay, log_decay), (of_omega, sums[:, 0, -1])]
    for actual, plain in [*pairs, *zip(grads, expected, strict=True)]:
        assert actual.shape == plain.shape
        torch.testing.assert_close(actual, plain.detach(), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_matrices_hold_every_tap_in_reach_once(bidirectional: bool) -> None:
    """Of steps 40 apart at most, in chunks of 16: within one, two chunks on, and three."""
    made, chunks = ema(bidirectional, None), chunks_of(bidirectional)
    forward, *backward = made.kernels(LENGTH, torch.float64)
    with poisoned(), torch.no_grad():
        taps = coefficients(parameters(made), made.omega, chunks, torch.float64).taps
    assert taps.shape == (DIM, 5 if bidirectional else 3, 32)
    expected = torch.zeros_like(taps)
    expected[:, 0, 16:] += forward[:, :16]
    for direction, kernel in enumerate((forward, *backward)):
        for edge, apart in enumerate((2, 3)):
            for offset in range(-15, 16):
                lag = apart * 16 + (offset if direction == 0 else -offset)
                if lag < TAPS:
                    expected[:, 1 + edge * chunks.directions + direction, 16 + offset] = kernel[:, lag]
    for kernel in backward:
        expected[:, 0, 1:17] += kernel[:, :16].flip(1)
    torch.testing.assert_close(taps, expected.detach(), rtol=1e-12, atol=1e-15)


def test_gradients_of_half_precision_parameters_are_theirs() -> None:
    made, chunks = ema(True, None, torch.bfloat16), chunks_of(True)
    sums = numbers(DIM, 1, width_of_sums(chunks, STATES), dtype=torch.float32)
    with torch.no_grad():
        by = coefficients(parameters(made), made.omega, chunks, torch.float32)
        *grads, _ = coefficients_backward(parameters(made), by, chunks, sums)
    assert by.weight.dtype == torch.float32
    torch.testing.assert_close(by.weight, made.coefficients()[0], rtol=1e-5, atol=0.0)
    assert [(g.shape, g.dtype) for g in grads] == [(p.shape, p.dtype) for p in parameters(made)]
