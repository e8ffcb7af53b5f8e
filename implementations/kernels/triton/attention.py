"""Attention over packed rows of different lengths, within a window or over the whole of each row.

The plain forms are `local_attention` and `full_attention` of `implementations.ops.local_attention`. Time is
linear in the number of pairs in reach; memory in the number of steps.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from implementations.kernels.triton.attention_kernels import (
    attention_kernel,
    scores_backward_kernel,
    values_backward_kernel,
)
from implementations.kernels.triton.launch import (
    ACCUMULATORS,
    accumulator,
    blocks,
    dot_precision,
    launch,
    launch_what_fits,
    power_of_two,
)
from implementations.kernels.triton.packing import Packing
from implementations.kernels.triton.work import Work
from implementations.ops.attention_functions import AttentionKind

KINDS = {"softmax": 0, "relu2": 1, "laplace": 2}
BIAS_COPIES = 64


@dataclass(frozen=True)
class Bias:
    """Numbers added to the scores: `table[clamp(origin + t_j − t_i)]`."""

    table: Tensor
    """`(size,)`."""
    origin: int
    by_time: bool
    """Whether t are the original positions; otherwise they are the places in the working memory."""


@dataclass(frozen=True)
class Blocks:
    """Sizes of the blocks into which a kernel divides its work."""

    queries: int
    keys: int
    slice: int
    """Columns of values in one step of a sum over them."""
    widest: int = 256
    """Most columns of values that one program accumulates."""

    @classmethod
    def usual(cls, dtype: torch.dtype) -> "Blocks":
        """Smaller blocks for products of float32 with all its digits, for which registers would not do."""
        rounded = dtype in (torch.float16, torch.bfloat16) or dot_precision() == "tf32"
        return cls(64, 32, 64) if rounded else cls(32, 32, 32)

    def columns(self, dim: int, hidden: int) -> int:
        """Columns of values per program, a power of two: scores are computed anew for each block of them."""
        scores = power_of_two(dim, least=16)
        sizes = [size for size in (16, 32, 64, 128, 256) if size <= self.widest]
        return min(sizes, key=lambda size: (blocks(hidden, size) * (scores + size), -size))


@dataclass(frozen=True)
class Attention:
    """Options of attention, as in the plain forms; window None for the whole row."""

    kind: AttentionKind = "softmax"
    causal: bool = False
    window: int | None = None
    blocks: Blocks | None = None
    """None for the usual."""

    def scale(self, dim: int) -> float:
        """Factor of the products of queries and keys, if the number of keys does not matter."""
        if self.kind == "softmax":
            return float(dim**-0.5)
        if self.window is None:
            return 1.0
        return 1.0 / (self.window if self.causal else 2 * self.window)


@dataclass(frozen=True)
class Problem:
    """Inputs of attention, and its launches."""

    how: Attention
    packing: Packing
    q: Tensor
    k: Tensor
    v: Tensor
    table: Tensor | None
    origin: int
    by_time: bool

    @property
    def cut(self) -> Blocks:
        return self.how.blocks or Blocks.usual(self.q.dtype)

    def launch(
        self,
        kernel: Any,
        size: int,
        inputs: tuple[Any, ...],
        rest: tuple[Any, ...],
        columns: int,
        split: bool,
    ) -> None:
        """Run a kernel whose arguments are the inputs, bias, rows and counts, the rest, and the sizes.

        One program per `size` steps, and per block of columns if `split`; else a program goes through all
        columns, so many at a time. If a device has too little shared memory, loads run fewer stages ahead,
        and then blocks get fewer columns.
        """
        how, packing, dim, hidden = self.how, self.packing, self.q.shape[1], self.v.shape[1]
        dtype = accumulator(self.q)
        programs = blocks(self.q.shape[0], size)
        table = self.q if self.table is None else self.table
        rows = (
            packing.offsets,
            packing.offsets.shape[0] - 1,
            packing.row,
            packing.place,
            packing.time if self.by_time else packing.place,
            packing.row if packing.hidden is None else packing.hidden,
        )
        constants = {
            "KIND": KINDS[how.kind],
            "SCALE": how.scale(dim),
            "BY_KEYS": how.kind != "softmax" and how.window is None,
            "CAUSAL": how.causal,
            "WINDOWED": how.window is not None,
            "BIASED": self.table is not None,
            "MASKED": packing.hidden is not None,
            "PRECISION": dot_precision(),
            "QUERIES": self.cut.queries,
            "KEYS": self.cut.keys,
            "DIM": power_of_two(dim, least=16),
            "ACC": ACCUMULATORS[dtype],
        }

        moved = [part for part in (*inputs, *rest) if isinstance(part, Tensor)]

        def run(stages: int, columns: int) -> None:
            launch(
                kernel,
                (programs, blocks(hidden, columns)) if split else (programs,),
                *inputs,
                (table, table.shape[0], self.origin),
                rows,
                packing.counts,
                *rest,
                self.q.shape[0],
                dim,
                hidden,
                how.window or 0,
                HIDDEN=columns,
                num_stages=stages,
                num_warps=8 if columns >= 128 or not split else 4,
                **constants,
                work=lambda: self.work(
                    (*moved, packing.row, packing.place),
                    2 * self.pairs(size) * _columns_of_products(dim, hidden, columns, split),
                ),
            )

        narrower = [(1, columns >> n) for n in range(1, columns.bit_length()) if columns >> n >= 16]
        forms = [(3, columns), (2, columns), (1, columns), *narrower]
        key = (kernel, self.q.dtype, self.q.device, columns, *constants.values())
        launch_what_fits(key, [partial(run, *form) for form in forms])

    def work(self, moves: tuple[Tensor, ...], products: int) -> Work:
        if self.q.dtype == torch.float32 and dot_precision() == "tf32x3":
            return Work(moves, tf32=products)
        return Work(moves, products=products)

    def pairs(self, size: int) -> int:
        """Pairs of steps that programs of `size` steps go through, blocks' margins included, in rows of one
        length."""
        how, steps = self.how, self.q.shape[0]
        row = blocks(steps, self.packing.offsets.shape[0] - 1)
        if how.window is None:
            reach = (row + size) // 2 if how.causal else row
        else:
            reach = size + how.window * (1 if how.causal else 2)
        partners = self.cut.keys if size == self.cut.queries else self.cut.queries
        return blocks(steps, size) * size * blocks(min(row, reach), partners) * partners

    def forward(self) -> tuple[Tensor, Tensor]:
        """The result, and the log of each query's sum of weights."""
        steps, hidden = self.v.shape
        columns = self.cut.columns(self.q.shape[1], hidden)
        out = torch.empty_like(self.v)
        log_sums = self.v.new_empty(steps, dtype=accumulator(self.q))
        inputs = (self.q, self.k, self.v)
        self.launch(attention_kernel, self.cut.queries, inputs, (out, log_sums), columns, split=True)
        return out, log_sums

    def backward(
        self, grad: Tensor, out: Tensor, log_sums: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Gradients of q, k, v and the table."""
        hidden, cut = self.v.shape[1], self.cut
        columns, narrow = cut.columns(self.q.shape[1], hidden), min(cut.slice, power_of_two(hidden, least=16))
        grad_q, grad_v = torch.empty_like(self.q), torch.empty_like(self.v)
        grad_k = torch.zeros_like(self.k, dtype=log_sums.dtype)
        table = log_sums if self.table is None else self.table
        grad_bias = log_sums.new_zeros(BIAS_COPIES, table.shape[0] if self.table is not None else 0)
        self.launch(
            values_backward_kernel,
            cut.keys,
            (self.q, self.k),
            (grad, log_sums, grad_v),
            columns,
            split=True,
        )
        self.launch(
            scores_backward_kernel,
            cut.queries,
            (self.q, self.k, self.v),
            (out, grad, log_sums, grad_q, grad_k, grad_bias, BIAS_COPIES),
            narrow,
            split=False,
        )
        return grad_q, grad_k.to(self.k.dtype), grad_v, None if self.table is None else grad_bias.sum(dim=0)


def _columns_of_products(dim: int, hidden: int, columns: int, split: bool) -> int:
    """Columns of all products for one pair: scores once per block of columns, or scores and two gradients."""
    scores, values = power_of_two(dim, least=16), blocks(hidden, columns)
    return values * (scores + columns) if split else 3 * scores + values * columns


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        table: Tensor | None,
        origin: int,
        by_time: bool,
        packing: Packing,
        how: Attention,
    ) -> Tensor:
        out, log_sums = Problem(how, packing, q, k, v, table, origin, by_time).forward()
        ctx.save_for_backward(q, k, v, table, out, log_sums)
        ctx.rest = how, packing, origin, by_time
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, table, out, log_sums = ctx.saved_tensors
        how, packing, origin, by_time = ctx.rest
        problem = Problem(how, packing, q, k, v, table, origin, by_time)
        return *problem.backward(grads[0].contiguous(), out, log_sums), None, None, None, None


def attention(
    q: Tensor, k: Tensor, v: Tensor, packing: Packing, how: Attention, bias: Bias | None = None
) -> Tensor:
    """Packed q, k `(steps, dim)`, v `(steps, hidden)` to `(steps, hidden)`; zeros for a query with no key."""
    table = None if bias is None else bias.table.to(accumulator(q))
    out: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        table,
        0 if bias is None else bias.origin,
        bias is not None and bias.by_time,
        packing,
        how,
    )
    return out
