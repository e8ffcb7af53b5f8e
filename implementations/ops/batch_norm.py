"""Batch normalisation of rows `(rows, dim)`: each channel by its mean and variance over the rows.

torch's CPU kernel for this layout is fast, but adds up a channel's rows one by one in float32: over 30,000
rows it loses one or two digits of the output, and more of the gradients. Here it adds up runs of 64 rows, as
if each were a channel of its own, and the runs are put together in float64: nearly as fast, and as exact as
torch's kernel for `(batch, dim, length)`, which adds up in float64.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

RUN = 64
"""Rows that are added up in the precision of the states."""


def batch_norm(
    rows: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise rows `(rows, dim)`, at least two; weight, bias `(dim,)` or None for 1 and 0.

    Returns the rows, and their mean and unbiased variance `(dim,)`, which have no gradient.
    Raises ValueError if there is one row.
    """
    # Weights in half precision are as wide as the statistics, as torch wants.
    wide = torch.promote_types(rows.dtype, torch.float32)
    weight, bias = (None if parameter is None else parameter.to(wide) for parameter in (weight, bias))
    if rows.device.type != "cpu" or rows.dtype not in (torch.float32, torch.float64) or len(rows) < 2:
        return _by_torch(rows, weight, bias, epsilon)
    if torch.compiler.is_compiling():
        # Compiled sums are made in parts too, and fused with what comes before and after.
        return _by_torch(rows, weight, bias, epsilon)
    y, mean, variance = _BatchNorm.apply(rows.contiguous(), weight, bias, epsilon)  # type: ignore[no-untyped-call]
    return y, mean, variance * (len(rows) / (len(rows) - 1))


def _by_torch(
    rows: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    mean = rows.new_zeros(rows.shape[1], dtype=torch.promote_types(rows.dtype, torch.float32))
    variance = torch.zeros_like(mean)
    y = F.batch_norm(rows, mean, variance, weight, bias, training=True, momentum=1.0, eps=epsilon)
    return y, mean, variance


class _BatchNorm(torch.autograd.Function):
    """The normalised rows, their mean and their biased variance."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = _statistics(rows)
        ctx.save_for_backward(rows, mean, (variance + epsilon).rsqrt(), weight)
        ctx.mark_non_differentiable(mean, variance)
        return _affine(rows, mean, variance, weight, bias, epsilon), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0].contiguous()
        rows, mean, rate, weight = ctx.saved_tensors
        along, total = _gradient_sums(grad, rows, mean, rate)
        scaled = rate if weight is None else rate * weight
        # grad·scaled, less its mean and its part along the normalised rows.
        part = scaled / len(rows)
        grad_rows = _affine(rows, mean, torch.ones_like(mean), -part * along * rate, -part * total, 0.0)
        grad_rows.addcmul_(grad, scaled)
        return grad_rows, *(None if weight is None else sums for sums in (along, total)), None


def _affine(
    rows: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> Tensor:
    """`weight·(rows − mean)·(variance + ε)^-½ + bias` in one pass."""
    return F.batch_norm(rows, mean, variance, weight, bias, training=False, eps=epsilon)


def _statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance `(dim,)` over the rows."""
    dim, shares, means, variances = rows.shape[1], [], [], []
    for runs, part in _runs(rows):
        mean, variance = torch.batch_norm_update_stats(part, None, None, 0.0)
        means.append(mean.view(runs, dim).double())
        variances.append(variance.view(runs, dim).double())
        shares.append(mean.new_full((runs, 1), len(part) / len(rows), dtype=torch.float64))
    share, run_mean = torch.cat(shares), torch.cat(means)
    mean = (run_mean * share).sum(dim=0)
    variance = ((torch.cat(variances) + (run_mean - mean).square()) * share).sum(dim=0)
    return mean.to(rows.dtype), variance.to(rows.dtype)


def _gradient_sums(grad: Tensor, rows: Tensor, mean: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the rows of grad times the normalised rows, and of grad: `(dim,)` each."""
    along = torch.zeros_like(mean, dtype=torch.float64)
    total = torch.zeros_like(along)
    for (runs, part), (_, grad_part) in zip(_runs(rows), _runs(grad), strict=True):
        _, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad_part,
            part,
            None,
            None,
            None,
            mean.repeat(runs),
            rate.repeat(runs),
            True,
            0.0,
            [False, True, True],
        )
        along += grad_weight.view(runs, -1).double().sum(dim=0)
        total += grad_bias.view(runs, -1).double().sum(dim=0)
    return along.to(mean.dtype), total.to(mean.dtype)


def _runs(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Whole runs side by side, `(RUN, runs·dim)` with their number, then the rest as one run."""
    runs = len(rows) // RUN
    if runs:
        yield runs, rows[: runs * RUN].view(RUN, -1)
    if len(rows) % RUN:
        yield 1, rows[runs * RUN :]
