"""Queries, keys, values and gates of the gated attention unit from one projection."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from implementations.kernels.triton.gate_kernels import gates_backward_kernel, gates_kernel
from implementations.kernels.triton.launch import (
    ACCUMULATORS,
    accumulator,
    blocks,
    draw_seed,
    launch,
    power_of_two,
    row_block,
)
from implementations.kernels.triton.packing import Packing
from implementations.kernels.triton.work import Work
from implementations.ops.rotary import BASE

COLUMNS = 128


@lru_cache(maxsize=16)
def rotary_tables(length: int, dim: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angles of `implementations.ops.rotary`, `(length, dim/2)` each."""
    channels = torch.arange(0, dim, 2, device=device, dtype=dtype)
    angle = torch.arange(length, device=device, dtype=dtype).unsqueeze(-1) * BASE ** (-channels / dim)
    return angle.cos(), angle.sin()


class _Gates(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        base: Tensor,
        gamma: Tensor,
        beta: Tensor,
        packing: Packing,
        tables: tuple[Tensor, Tensor] | None,
        dropout: float,
    ) -> tuple[Tensor, ...]:
        steps, dim = base.shape[0], gamma.shape[1]
        hidden = (base.shape[1] - dim) // 2
        q, k = base.new_empty(2, steps, dim)
        r, v = base.new_empty(2, steps, hidden)
        seed = draw_seed(dropout, base)
        _launch(
            gates_kernel,
            base,
            gamma,
            beta,
            packing,
            tables,
            (q, k, r, v),
            seed,
            (steps, dim, hidden),
            dropout,
        )
        ctx.save_for_backward(base, gamma, beta, seed)
        ctx.packing, ctx.tables, ctx.dropout = packing, tables, dropout
        return q, k, r, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        base, gamma, beta, seed = ctx.saved_tensors
        steps, dim = base.shape[0], gamma.shape[1]
        sizes = (steps, dim, (base.shape[1] - dim) // 2)
        grad_base = torch.empty_like(base)
        sums = gamma.new_empty(blocks(steps, row_block(dim)[0]), 4, dim)
        outputs = (*(grad.contiguous() for grad in grads), grad_base, sums)
        _launch(
            gates_backward_kernel,
            base,
            gamma,
            beta,
            ctx.packing,
            ctx.tables,
            outputs,
            seed,
            sizes,
            ctx.dropout,
        )
        grad_gamma, grad_beta = sums.sum(dim=0).view(2, 2, dim)
        return grad_base, grad_gamma, grad_beta, None, None, None


def _launch(
    kernel: Any,
    base: Tensor,
    gamma: Tensor,
    beta: Tensor,
    packing: Packing,
    tables: tuple[Tensor, Tensor] | None,
    results: tuple[Tensor, ...],
    seed: Tensor,
    sizes: tuple[int, int, int],
    dropout: float,
) -> None:
    steps, dim, hidden = sizes
    rows, channels = row_block(dim)
    columns = min(COLUMNS, power_of_two(2 * hidden, least=16))
    launch(
        kernel,
        (blocks(steps, rows), 1 + blocks(2 * hidden, columns)),
        base,
        gamma,
        beta,
        *(tables or (base, base)),
        packing.time,
        *results,
        seed,
        packing.offsets,
        packing.offsets.shape[0] - 1,
        steps,
        dim,
        hidden,
        ROTARY=tables is not None,
        DROPOUT=dropout,
        ROWS=rows,
        DIM=channels,
        COLUMNS=columns,
        ACC=ACCUMULATORS[gamma.dtype],
        work=lambda: Work((base, *results)),
    )


def gates(
    base: Tensor,
    gamma: Tensor,
    beta: Tensor,
    packing: Packing,
    *,
    rotary_length: int | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k `(steps, dim)`, r, v `(steps, hidden)` of base `(steps, dim + hidden + hidden)`, in its precision.

    gamma, beta `(2, dim)`; rotary_length: longest sequence if queries and keys are turned, None if they
    are not; dropout of v.
    """
    dtype, dim = accumulator(base), gamma.shape[1]
    tables = None if rotary_length is None else rotary_tables(rotary_length, dim, dtype, base.device)
    q, k, r, v = _Gates.apply(  # type: ignore[no-untyped-call]
        base.contiguous(), gamma.to(dtype), beta.to(dtype), packing, tables, dropout
    )
    return q, k, r, v
