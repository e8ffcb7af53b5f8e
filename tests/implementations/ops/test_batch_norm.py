"""Batch norm of rows against torch's for `(batch, dim, length)`, which adds up in float64."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.ops.batch_norm import RUN, batch_norm
from implementations.ops.flax_layers import BatchNorm as FlaxBatchNorm
from implementations.ops.norms import EPSILON, SequenceNorm

Form = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]


def ours(rows: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    return batch_norm(rows, weight, bias, EPSILON)[0]


def naive(rows: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    return F.batch_norm(rows, None, None, weight, bias, training=True, eps=EPSILON)


def outcome(form: Form, dtype: torch.dtype, rows: int, dim: int, affine: bool = True) -> list[Tensor]:
    """The output and the gradients of rows (each channel has a mean of its own), weight and bias."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, dim, generator=generator) + torch.randn(dim, generator=generator)
    weight, bias = torch.randn(2, dim, generator=generator)
    grad = torch.randn(rows, dim, generator=generator) + 0.5
    leaves = [leaf.to(dtype).requires_grad_() for leaf in ((x, weight, bias) if affine else (x,))]
    y = form(*leaves) if affine else form(leaves[0], None, None)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad.to(dtype))]


def errors(form: Form, rows: int, dim: int) -> list[float]:
    """Relative errors in float32 of the output and the gradients."""
    exact = outcome(naive, torch.float64, rows, dim)
    found = outcome(form, torch.float32, rows, dim)
    return [float((a.double() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]


@pytest.mark.parametrize("rows", [2, RUN - 1, RUN, 3 * RUN, 3 * RUN + 5])
@pytest.mark.parametrize("affine", [True, False])
def test_the_function_is_torch_s(rows: int, affine: bool) -> None:
    expected = outcome(naive, torch.float64, rows, 5, affine)
    torch.testing.assert_close(outcome(ours, torch.float64, rows, 5, affine), expected)


def test_float32_keeps_its_digits_over_many_rows() -> None:
    bounds = [2e-7, 2e-7, 5e-6, 1e-7]
    assert all(error < bound for error, bound in zip(errors(ours, 20_000, 8), bounds, strict=True))
    # One by one in float32, the fault that this form is there for.
    assert all(error > bound for error, bound in zip(errors(naive, 20_000, 8), bounds, strict=True))


def test_time_innermost_in_memory() -> None:
    x = torch.randn(1, 4, 3 * RUN).transpose(1, 2)
    torch.testing.assert_close(ours(x[0], None, None), naive(x[0], None, None))


def test_running_statistics_are_torch_s() -> None:
    norm, official = SequenceNorm("batchnorm", 6).norm, nn.BatchNorm1d(6)
    for _ in range(3):
        x = torch.randn(3, 101, 6) * 2 + 1
        torch.testing.assert_close(norm(x), official(x.mT).mT)
    torch.testing.assert_close(dict(norm.named_buffers()), dict(official.named_buffers()))
    torch.testing.assert_close(norm.eval()(x), official.eval()(x.mT).mT)


def test_flax_keeps_the_biased_variance() -> None:
    norm = FlaxBatchNorm(6, momentum=0.75)
    x = torch.randn(3, 101, 6) * 2 + 1
    y = norm(x)
    mean, var = x.flatten(0, 1).mean(dim=0), x.flatten(0, 1).var(dim=0, correction=0)
    torch.testing.assert_close(norm.mean, 0.25 * mean)
    torch.testing.assert_close(norm.var, 0.75 + 0.25 * var)
    torch.testing.assert_close(y, (x - mean) * (var + 1e-5).rsqrt())


def test_half_precision_has_float32_statistics() -> None:
    y, mean, variance = batch_norm(torch.randn(300, 4).bfloat16(), None, None, EPSILON)
    assert (y.dtype, mean.dtype, variance.dtype) == (torch.bfloat16, torch.float32, torch.float32)


def test_one_row_has_no_variance() -> None:
    with pytest.raises(ValueError, match="more than 1 value"):
        batch_norm(torch.randn(1, 4), None, None, EPSILON)


@pytest.mark.parametrize("training", [True, False])
def test_all_in_half_precision(training: bool) -> None:
    """Weights and running statistics too: as exact as they are."""
    torch.manual_seed(0)
    half = SequenceNorm("batchnorm", 6).bfloat16().train(training)
    for tensor in (*half.parameters(), half.norm.running_mean, half.norm.running_var):
        nn.init.uniform_(tensor, 0.5, 2)
    wide = copy.deepcopy(half).float()
    x, grad = (torch.randn(3, 101, 6).bfloat16() for _ in range(2))
    results = []
    for norm, states in ((half, x.clone()), (wide, x.float())):
        y = norm(states.requires_grad_())
        y.backward(grad.to(y.dtype))
        results.append([y, states.grad, *(p.grad for p in norm.parameters()), *norm.buffers()])
    assert results[0][0].dtype == torch.bfloat16
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=2e-2, atol=2e-2)
