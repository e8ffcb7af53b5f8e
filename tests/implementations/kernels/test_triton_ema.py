"""The average in matrix form against the convolution."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from implementations.ops.ema import DampedEMA
from implementations.ops.norms import SequenceNorm

from .matrix_units import matrix_units
from .triton_oracle import DEVICE, check, numbers, outcome, poisoned, with_parameters

from implementations.kernels.triton.ema import damped_ema  # isort: skip
from implementations.kernels.triton.norms import RowNorm  # isort: skip

DIM, STATES = 3, 2


def average(
    truncation: int | None = None, bidirectional: bool = True, delta: float | None = None, dim: int = DIM
) -> DampedEMA:
    """delta: of every state; −7 keeps all of a short sequence, with q above 0.999."""
    torch.manual_seed(0)
    made = DampedEMA(dim, STATES, bidirectional, truncation)
    if delta is not None:
        torch.nn.init.constant_(made.delta, delta)
    return made.to(DEVICE, torch.float64)


def padding(batch: int, length: int) -> Tensor:
    """Two thirds of the last row are real, and all of the others."""
    mask = torch.zeros(batch, length, dtype=torch.bool, device=DEVICE)
    mask[-1, 2 * length // 3 + 1 :] = True
    return mask


@pytest.mark.parametrize(
    ("batch", "length", "truncation", "chunk", "bidirectional"),
    [
        # One step, a part of a chunk, whole chunks, more than those.
        (2, 1, None, None, True),
        (1, 16, None, 16, True),
        (1, 64, None, 16, False),
        (2, 37, None, 16, True),
        # Truncated to whole chunks: one, two, more of them.
        (1, 50, 16, 16, True),
        (1, 70, 32, 16, False),
        (1, 150, 112, 16, True),
        # And to others: within a chunk, and a step more or less than one.
        (2, 40, 5, 16, True),
        (1, 50, 1, 16, True),
        (1, 50, 17, 16, True),
        (1, 90, 63, 16, True),
        (1, 40, 99, 16, True),
        # Chunks of more than one block.
        (1, 150, None, 128, False),
        (1, 150, 140, 128, True),
    ],
)
def test_equals_the_convolution(
    batch: int, length: int, truncation: int | None, chunk: int | None, bidirectional: bool
) -> None:
    made = average(truncation, bidirectional, delta=-7.0 if truncation else None)
    mask = padding(batch, length)
    check(
        with_parameters(made, lambda ema, x: ema(x, mask)),
        with_parameters(made, lambda ema, x: damped_ema(ema, x, mask, chunk=chunk)),
        numbers(batch, length, DIM),
        *made.parameters(),
    )


def test_channels_that_fill_no_block() -> None:
    made = average(truncation=4, dim=33)
    check(
        with_parameters(made, lambda ema, x: ema(x)),
        with_parameters(made, lambda ema, x: damped_ema(ema, x, chunk=16)),
        numbers(1, 5, 33),
        *made.parameters(),
    )


@pytest.mark.parametrize("kind", ["layernorm", "scalenorm", "rmsnorm"])
def test_norm_before_and_silu_after(kind: str) -> None:
    made = torch.nn.ModuleDict({"ema": average(truncation=20), "norm": SequenceNorm(kind, DIM).double()})
    made.to(DEVICE)
    for parameter in made["norm"].parameters():
        torch.nn.init.normal_(parameter)
    mask = padding(1, 40)

    def plain(made: torch.nn.ModuleDict, x: Tensor) -> Tensor:
        return F.silu(made["ema"](made["norm"](x), mask))

    def fused(made: torch.nn.ModuleDict, x: Tensor) -> Tensor:
        norm = RowNorm.of(made["norm"], x)
        assert norm is not None
        return damped_ema(made["ema"], x, mask, norm=norm, activated=True, chunk=16)

    inputs = (numbers(1, 40, DIM), *made.parameters())
    check(with_parameters(made, plain), with_parameters(made, fused), *inputs)


def test_dropout_drops_the_same_elements_forward_and_backward() -> None:
    made, x = average(dim=16), numbers(1, 4, 16).requires_grad_()
    kept = F.silu(made(x.detach()))
    torch.manual_seed(1)
    with poisoned():
        y = damped_ema(made, x, activated=True, dropout=0.25)
        (grad,) = torch.autograd.grad((y * (y != 0)).sum(), x)
    dropped = y == 0
    assert 4 <= dropped.sum() <= 28
    torch.testing.assert_close(y[~dropped], kept[~dropped] / 0.75, rtol=1e-12, atol=1e-12)
    leaf = x.detach().requires_grad_()
    expected = torch.autograd.grad((F.silu(made(leaf)) * ~dropped).sum() / 0.75, leaf)[0]
    torch.testing.assert_close(grad, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("delta", [None, -9.0])
def test_float32_in_three_products_of_tf32_is_as_exact_as_the_plain_form(delta: float | None) -> None:
    made = average(truncation=45, delta=delta)
    inputs = (numbers(1, 100, DIM), *made.parameters())
    exact = outcome(with_parameters(made, lambda ema, x: ema(x)), inputs)
    narrow = [tensor.detach().float() for tensor in inputs]
    plain = outcome(with_parameters(made, lambda ema, x: ema(x)), narrow)
    with matrix_units():
        fused = outcome(with_parameters(made, lambda ema, x: damped_ema(ema, x, chunk=16)), narrow)
    for a, b, true in zip(fused, plain, exact, strict=True):
        error, allowed = ((t.double() - true).norm() / true.norm() for t in (a, b))
        assert error <= 3 * max(allowed, 1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_the_result_alone(dtype: torch.dtype) -> None:
    """Taps and states keep twice its digits: rounded once, they would be off by as much as the result."""
    made, x = average(truncation=45, delta=-4.0), numbers(1, 100, DIM, dtype=dtype)
    exact = made(x.double())
    with poisoned(), matrix_units():
        y = damped_ema(made.float(), x, chunk=16)
    assert y.dtype == dtype
    eps = torch.finfo(dtype).eps
    # The interpreter cuts a result where a device rounds it.
    assert ((y.double() - exact).abs() <= exact.abs() * eps + 4 * eps**2).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_in_half_precision(dtype: torch.dtype) -> None:
    made = average(truncation=45).float()
    inputs = (numbers(1, 100, DIM, dtype=dtype), *made.parameters())
    exact = outcome(with_parameters(made, lambda ema, x: ema(x)), [tensor.double() for tensor in inputs])
    with matrix_units():
        fused = outcome(with_parameters(made, lambda ema, x: damped_ema(ema, x, chunk=16)), inputs)
    for a, true in zip(fused, exact, strict=True):
        assert (a.double() - true).norm() <= torch.finfo(dtype).eps * true.norm()
