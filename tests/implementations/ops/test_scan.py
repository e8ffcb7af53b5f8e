"""The parallel scan: the recurrence step by step, its gradients, and no memory beyond the result."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from implementations.ops.scan import linear_scan


def recurrence(decay: Tensor, inputs: Tensor, reverse: bool) -> Tensor:
    state, states = torch.zeros_like(inputs[:, 0]), {}
    steps = range(inputs.shape[1])
    for t in reversed(steps) if reverse else steps:
        state = decay * state + inputs[:, t]
        states[t] = state
    return torch.stack([states[t] for t in steps], dim=1)


def decay_and_inputs(batch: int, length: int, state: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    radius = torch.rand(state, dtype=torch.float64, generator=generator)
    angle = torch.randn(state, dtype=torch.float64, generator=generator)
    decay = torch.polar(radius, angle) if dtype.is_complex else radius
    return decay.to(dtype), torch.randn(batch, length, state, dtype=dtype, generator=generator)


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 70), reverse=st.booleans(), dtype=st.sampled_from([torch.float64, torch.complex128])
)
def test_equals_the_recurrence(length: int, reverse: bool, dtype: torch.dtype) -> None:
    decay, inputs = decay_and_inputs(2, length, 3, dtype)
    before = inputs.clone()
    states = linear_scan(decay, inputs, reverse)
    torch.testing.assert_close(states, recurrence(decay, inputs, reverse), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(inputs, before, rtol=0, atol=0)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_gradients(length: int, reverse: bool) -> None:
    decay, inputs = decay_and_inputs(2, length, 3, torch.complex128)
    arguments = (decay.requires_grad_(), inputs.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: linear_scan(a, b, reverse), arguments)
    assert torch.autograd.gradgradcheck(lambda a, b: linear_scan(a, b, reverse), arguments)


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_over_a_long_sequence_equal_the_recurrence_s(reverse: bool) -> None:
    decay, inputs = decay_and_inputs(2, 300, 4, torch.complex128)
    arguments = (decay.requires_grad_(), inputs.requires_grad_())
    cotangent = torch.randn(2, 300, 4, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad(linear_scan(*arguments, reverse), arguments, cotangent)
    reference = torch.autograd.grad(recurrence(*arguments, reverse), arguments, cotangent)
    torch.testing.assert_close(ours, reference, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("decay", [0.0, 1e-30, 1e-3, 1.0])
def test_is_stable_for_every_decay(decay: float) -> None:
    """A form that divides by powers of the decay would overflow."""
    decays = torch.tensor([decay], requires_grad=True)
    inputs = torch.ones(1, 5000, 1, requires_grad=True)
    states = linear_scan(decays, inputs)
    states[:, -1].sum().backward()
    expected = 5000.0 if decay == 1.0 else 1 / (1 - decay)
    assert states[0, -1, 0].item() == pytest.approx(expected)
    assert torch.isfinite(inputs.grad).all()
    assert torch.isfinite(decays.grad).all()


def test_takes_strided_inputs_and_gradients() -> None:
    decay, inputs = decay_and_inputs(2, 12, 3, torch.float64)
    transposed = inputs.mT.contiguous().mT.requires_grad_()
    states = linear_scan(decay, transposed)
    torch.testing.assert_close(states, recurrence(decay, inputs, False))
    (gradient,) = torch.autograd.grad(states.mT.sum(), transposed)
    torch.testing.assert_close(gradient, recurrence(decay, torch.ones_like(inputs), True))


class Operators(TorchDispatchMode):
    """Counts operators."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_depth_is_logarithmic() -> None:
    counts = []
    for length in (1024, 2048, 4096):
        with Operators() as operators:
            linear_scan(*decay_and_inputs(1, length, 2, torch.complex64))
        counts.append(operators.count)
    assert counts[2] - counts[1] == counts[1] - counts[0] < 20
