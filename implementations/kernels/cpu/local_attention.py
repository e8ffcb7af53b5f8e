"""Fused attention within a window: no masks, no copies of keys, scores recomputed in the backward pass.

The plain form is `implementations.ops.local_attention.local_attention`. RowAttention runs on one row.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from implementations.kernels.cpu.band import layout_of
from implementations.kernels.cpu.layout import Layout
from implementations.kernels.cpu.native.attention import weigh, weigh_backward
from implementations.kernels.cpu.native.calls import usable
from implementations.kernels.cpu.weights import hidden_score, scores_gradient_, weigh_
from implementations.ops.attention_functions import AttentionKind
from implementations.ops.relative_bias import RelativeBias


@dataclass(frozen=True)
class Bias:
    """Numbers of a table added to the scores: `table[clamp(origin + t_j − t_i)]`.

    positions: t `(length,)` int64, or None for the indices i, j themselves.
    """

    table: Tensor
    origin: int
    positions: Tensor | None = None

    def by_distance(self, layout: Layout) -> Tensor:
        """`(left + 1 + right,)`: the number of each distance, a view of the table if it reaches that far."""
        first, last = self.origin - layout.left, self.origin + layout.right
        if first >= 0 and last < len(self.table):
            return self.table[first : last + 1]
        return self.table[self._clamped(layout)]

    def add_by_distance(self, grad: Tensor, layout: Layout, sums: Tensor) -> None:
        """Add to the table's gradient that of by_distance."""
        first, last = self.origin - layout.left, self.origin + layout.right
        if first >= 0 and last < len(self.table):
            grad[first : last + 1].add_(sums)
        else:
            grad.index_add_(0, self._clamped(layout), sums)

    def _clamped(self, layout: Layout) -> Tensor:
        distance = torch.arange(-layout.left, layout.right + 1, device=self.table.device)
        return (distance + self.origin).clamp_(0, len(self.table) - 1)

    def by_pair(self, layout: Layout, positions: Tensor) -> Tensor:
        """`(queries, reach)`: index in the table of each pair in reach."""
        keys = layout.keys_in_reach(positions + self.origin)
        queries = F.pad(positions, (0, len(keys) - len(positions)))
        return (keys - queries.unsqueeze(-1)).clamp_(0, self.table.numel() - 1)


@dataclass(frozen=True)
class RowAttention:
    """Attention of one row: queries `(length, z)` on keys `(length, z)` and values `(length, hidden)`.

    All of them, and the gradient of the output, come amid the zeros of the layout: `whole` of its Padded.
    Scores are `q·k` plus the bias: queries are scaled already. hidden: `(length,)` boolean, keys that no
    query sees, or None. The output of a query that sees no key is zero. sequence: `(length,)` integers, the
    number of each step's own sequence, if the row holds several that do not see each other.
    """

    layout: Layout
    kind: AttentionKind
    bias: Bias | None = None
    hidden: Tensor | None = None
    sequence: Tensor | None = None

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """`(length, hidden)`, without zeros around."""
        layout = self.layout
        weights, _ = self._weights(torch.bmm(layout.query_blocks(q), layout.key_windows(k).transpose(1, 2)))
        return torch.bmm(layout.by_query(weights), layout.key_windows(v)).flatten(0, 1)[: layout.length]

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Gradients of q, k, v, without zeros around, and of the bias's table, from that of the output."""
        layout, length = self.layout, self.layout.length
        keys, values = layout.key_windows(k), layout.key_windows(v)
        products = torch.bmm(layout.query_blocks(q), keys.transpose(1, 2))
        weights, slope = self._weights(products, slope=True)
        torch.bmm(layout.query_blocks(grad), values.transpose(1, 2), out=products)
        grad_v = torch.bmm(layout.by_key(weights).transpose(1, 2), layout.query_windows(grad))
        grad_scores, grad_table = self._scores_gradient(products, weights, slope)
        grad_q = torch.bmm(layout.by_query(grad_scores), keys)
        grad_k = torch.bmm(layout.by_key(grad_scores).transpose(1, 2), layout.query_windows(q))
        return (
            grad_q.flatten(0, 1)[:length],
            grad_k.flatten(0, 1)[:length],
            grad_v.flatten(0, 1)[:length],
            grad_table,
        )

    def _weights(self, products: Tensor, slope: bool = False) -> tuple[Tensor, Tensor | None]:
        """Weights in the layout's memory, from queries times keys `(blocks, block, window)`.

        slope: whether the second is what _scores_gradient needs, if it needs any but the weights.
        """
        if not self._in_c(products):
            scores = self._scores(products)
            blind = self.hidden is not None
            return scores, weigh_(self.layout.rows(scores), self.kind, blind=blind, slope=slope)
        weights = self.layout.empty_scores(products, fill=0.0)
        weigh(products, self.layout.rows(weights), *self._pairs(products))
        return weights, None

    def _scores_gradient(
        self, grad: Tensor, weights: Tensor, slope: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients of the scores, in the layout's memory, and of the table, from grad of the weights.

        grad `(blocks, block, window)`.
        """
        layout = self.layout
        grad_scores = layout.empty_scores(grad, fill=0.0)
        if not self._in_c(grad):
            layout.by_query(grad_scores).copy_(grad)
            scores_gradient_(layout.rows(grad_scores), layout.rows(weights), slope)
            return grad_scores, self._bias_gradient(grad_scores)
        sums = weigh_backward(grad, layout.rows(weights), layout.rows(grad_scores), *self._pairs(grad))
        if self.bias is None or self.bias.positions is not None:
            return grad_scores, None if self.bias is None else sums
        grad_table = torch.zeros_like(self.bias.table)
        self.bias.add_by_distance(grad_table, layout, sums)
        return grad_scores, grad_table

    def _in_c(self, products: Tensor) -> bool:
        return self.kind != "laplace" and usable(products)

    def _pairs(self, products: Tensor) -> tuple[Any, ...]:
        """Arguments of the kernels in C that describe the pairs."""
        layout, bias, positions, origin = self.layout, None, None, 0
        if self.bias is not None:
            positions, origin = self.bias.positions, self.bias.origin
            bias = self.bias.by_distance(layout) if positions is None else self.bias.table
            bias = bias.to(products.dtype).contiguous()
        columns = [*layout.of_products, *layout.of_rows]
        reach = [0, layout.length, layout.size, layout.left, layout.right]
        squared = self.kind == "relu2"
        return bias, positions, self.sequence, self.hidden, columns, reach, origin, squared

    def _scores(self, products: Tensor) -> Tensor:
        """Scores in the layout's memory."""
        layout, lowest = self.layout, hidden_score(products.dtype)
        if self.bias is not None and self.bias.positions is None:
            by_distance = self.bias.by_distance(layout)
        else:
            by_distance = products.new_zeros(layout.left + 1 + layout.right)
        scores = layout.empty_scores(products, fill=lowest)
        torch.add(products, layout.at_distances(by_distance, lowest), out=layout.by_query(scores))
        layout.hide_outside(scores, lowest)
        if self.bias is not None and self.bias.positions is not None:
            index = self.bias.by_pair(layout, self.bias.positions)
            layout.in_reach(scores).add_(self.bias.table.index_select(0, index.flatten()).view(index.shape))
        if self.hidden is not None:
            layout.in_reach(scores).masked_fill_(layout.keys_in_reach(self.hidden), lowest)
        if self.sequence is not None:
            keys = layout.keys_in_reach(self.sequence)
            own = F.pad(self.sequence, (0, len(keys) - len(self.sequence)))
            layout.in_reach(scores).masked_fill_(keys != own.unsqueeze(-1), lowest)
        return scores

    def _bias_gradient(self, grad_scores: Tensor) -> Tensor | None:
        if self.bias is None:
            return None
        grad = torch.zeros_like(self.bias.table)
        if self.bias.positions is None:
            self.bias.add_by_distance(grad, self.layout, self.layout.sum_by_distance(grad_scores))
            return grad
        index = self.bias.by_pair(self.layout, self.bias.positions)
        return grad.scatter_add_(0, index.flatten(), self.layout.in_reach(grad_scores).flatten())


class _LocalAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, rows: list[RowAttention]
    ) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.rows = rows
        return torch.stack(
            [row.forward(*_amid_zeros(row, *qkv)) for row, *qkv in zip(rows, q, k, v, strict=True)]
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        parts = [
            row.backward(*_amid_zeros(row, grad, *qkv))
            for row, grad, *qkv in zip(ctx.rows, grads[0], *ctx.saved_tensors, strict=True)
        ]
        grad_q, grad_k, grad_v, grad_tables = zip(*parts, strict=True)
        table = None if grad_tables[0] is None else torch.stack(grad_tables).sum(dim=0)
        return torch.stack(grad_q), torch.stack(grad_k), torch.stack(grad_v), table, None


def _amid_zeros(row: RowAttention, *tensors: Tensor) -> list[Tensor]:
    padded = [row.layout.empty_rows(x, x.shape[1]) for x in tensors]
    for memory, x in zip(padded, tensors, strict=True):
        memory.rows.copy_(x)
    return [memory.whole for memory in padded]


def fused_local_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int,
    *,
    kind: AttentionKind = "softmax",
    causal: bool = False,
    valid: Tensor | None = None,
    bias: RelativeBias | None = None,
    positions: Tensor | None = None,
) -> Tensor:
    """`implementations.ops.local_attention.local_attention` with the same arguments and the same result."""
    scale = q.shape[-1] ** -0.5 if kind == "softmax" else 1.0 / (window if causal else 2 * window)
    layout = layout_of(q.shape[1], window, 0 if causal else window)
    table = None if bias is None else bias.rel_pos_bias
    rows = [
        RowAttention(
            layout,
            kind,
            None
            if bias is None
            else Bias(bias.rel_pos_bias, bias.origin, None if positions is None else positions[row]),
            None if valid is None else ~valid[row],
        )
        for row in range(len(q))
    ]
    out: Tensor = _LocalAttention.apply(q * scale, k, v, table, rows)  # type: ignore[no-untyped-call]
    return out
