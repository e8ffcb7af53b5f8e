"""Attention over whole sequences, or chunks of them, in blocks of queries: memory linear in the length.

The plain forms are `implementations.ops.local_attention.full_attention` and
`implementations.ops.chunked_attention.ChunkedAttention`. Scores are recomputed in the backward pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from implementations.kernels.cpu.band import Square, sum_by_distance, toeplitz
from implementations.kernels.cpu.layout import Layout
from implementations.kernels.cpu.local_attention import Bias
from implementations.kernels.cpu.native.attention import weigh, weigh_backward
from implementations.kernels.cpu.native.calls import usable
from implementations.kernels.cpu.weights import hidden_score, scores_gradient_, weigh_
from implementations.ops.attention_functions import AttentionKind

BLOCK_SCORES = 1 << 19
"""Scores in memory at a time: as many as stay in the cache beside queries, keys and values."""


@dataclass(frozen=True)
class DenseAttention:
    """Queries on keys `(sequences, length, z)` and values `(sequences, length, hidden)`.

    Scores are `q·k` plus the bias: queries are scaled already.
    hidden: `(sequences, length)` boolean, keys that no query sees, or None; a query without keys gives zeros.
    by_distance: `(2·length − 1,)`, a bias by the distance key − query, from the most negative on, or None.
    table, origin, positions: instead, a bias `table[clamp(origin + t_j − t_i)]` for the positions t
    `(sequences, length)` int64.
    """

    kind: AttentionKind
    causal: bool = False
    hidden: Tensor | None = None
    by_distance: Tensor | None = None
    table: Tensor | None = None
    origin: int = 0
    positions: Tensor | None = None

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """`(sequences, length, hidden)`."""
        out = v.new_empty(v.shape)
        for block in self._blocks(*q.shape[:2]):
            weights, _ = self._weights(block, q, k)
            torch.bmm(weights, v[block.keys], out=out[block.queries])
        return out

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Gradients of q, k, v and the bias (by_distance or table) from that of the output."""
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        bias = self.table if self.by_distance is None else self.by_distance
        grad_bias = None if bias is None else torch.zeros_like(bias)
        for block in self._blocks(*q.shape[:2]):
            weights, slope = self._weights(block, q, k, slope=True)
            upstream = grad[block.queries]
            _add_product(grad_v, block, weights.transpose(1, 2), upstream)
            grad_scores = torch.bmm(upstream, v[block.keys].transpose(1, 2))
            self._to_scores_gradient(grad_scores, block, weights, slope, grad_bias)
            torch.bmm(grad_scores, k[block.keys], out=grad_q[block.queries])
            _add_product(grad_k, block, grad_scores.transpose(1, 2), q[block.queries])
        return grad_q, grad_k, grad_v, grad_bias

    def _blocks(self, sequences: int, length: int) -> "Iterator[Block]":
        rows = max(1, BLOCK_SCORES // max(1, length))
        together, block = max(1, rows // length), min(rows, length)
        for first in range(0, sequences, together):
            for start in range(0, length, block):
                stop = min(start + block, length)
                last = stop if self.causal else length
                yield Block(slice(first, first + together), start, stop, last, length)

    def _weights(
        self, block: "Block", q: Tensor, k: Tensor, slope: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Weights `(sequences, block, keys)`; and what the scores' gradient needs besides, if anything."""
        if not self._in_c(q):
            scores = self._scores(block, q, k)
            return scores, weigh_(scores, self.kind, blind=self.hidden is not None, slope=slope)
        weights = torch.bmm(q[block.queries], k[block.keys].transpose(1, 2))
        weigh(weights, weights.flatten(0, 1), *self._pairs(block, weights))
        return weights, None

    def _to_scores_gradient(
        self, grad: Tensor, block: "Block", weights: Tensor, slope: Tensor | None, grad_bias: Tensor | None
    ) -> None:
        """Turn the gradient of the weights into that of the scores, in place, and add to the bias's."""
        if not self._in_c(grad):
            scores_gradient_(grad, weights, slope)
            if grad_bias is not None:
                self._add_bias_gradient(grad_bias, block, grad)
            return
        sums = weigh_backward(grad, weights.flatten(0, 1), grad.flatten(0, 1), *self._pairs(block, grad))
        if grad_bias is not None:
            grad_bias[: len(sums)].add_(sums)

    def _in_c(self, x: Tensor) -> bool:
        return self.kind != "laplace" and usable(x)

    def _pairs(self, block: "Block", products: Tensor) -> tuple[Any, ...]:
        """Arguments of the kernels in C that describe a block's pairs."""
        bias, positions, length = self.table, None, block.length
        right = 0 if self.causal else length - 1
        if self.by_distance is not None:
            bias = self.by_distance[: length + right]
        elif self.positions is not None:
            positions = self.positions[block.sequences].reshape(-1)
        bias = None if bias is None else bias.to(products.dtype).contiguous()
        hidden = None if self.hidden is None else self.hidden[block.sequences].reshape(-1)
        columns, sequences = [block.last, 0, length], len(products)
        reach = [block.start, sequences * length, length, length - 1, right]
        return bias, positions, None, hidden, [*columns, *columns], reach, self.origin, self.kind == "relu2"

    def _scores(self, block: "Block", q: Tensor, k: Tensor) -> Tensor:
        queries, keys = q[block.queries], k[block.keys].transpose(1, 2)
        if self.by_distance is None:
            scores = torch.bmm(queries, keys)
        else:
            bias = toeplitz(self._distances(self.by_distance, block), block.size)
            scores = torch.baddbmm(bias.unsqueeze(0), queries, keys)
        if self.table is not None and self.positions is not None:
            index = self._index(block, self.positions)
            scores += self.table.index_select(0, index.flatten()).view(index.shape)
        lowest = hidden_score(scores.dtype)
        if self.causal:
            later = torch.ones(block.size, block.size, dtype=torch.bool, device=q.device).triu(1)
            scores[:, :, block.start :].masked_fill_(later, lowest)
        if self.hidden is not None:
            scores.masked_fill_(self.hidden[block.keys].unsqueeze(1), lowest)
        return scores

    def _distances(self, values: Tensor, block: "Block") -> Tensor:
        """Values of a block's pairs, from values by distance."""
        zero = block.length - 1
        return values[zero - (block.stop - 1) : zero + block.last - block.start]

    def _index(self, block: "Block", positions: Tensor) -> Tensor:
        assert self.table is not None
        distance = positions[block.keys].unsqueeze(1) - positions[block.queries].unsqueeze(2)
        return distance.add_(self.origin).clamp_(0, self.table.numel() - 1)

    def _add_bias_gradient(self, grad: Tensor, block: "Block", grad_scores: Tensor) -> None:
        if self.positions is not None:
            index = self._index(block, self.positions)
            grad.scatter_add_(0, index.flatten(), grad_scores.flatten())
            return
        total = grad_scores[0] if len(grad_scores) == 1 else grad_scores.sum(dim=0)
        self._distances(grad, block).add_(sum_by_distance(total))


@dataclass(frozen=True)
class Block:
    """Queries start … stop − 1 of some sequences of a length, against their keys 0 … last − 1."""

    sequences: slice
    start: int
    stop: int
    last: int
    length: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def queries(self) -> tuple[slice, slice]:
        return self.sequences, slice(self.start, self.stop)

    @property
    def keys(self) -> tuple[slice, slice]:
        return self.sequences, slice(self.last)


def _add_product(total: Tensor, block: Block, first: Tensor, second: Tensor) -> None:
    """Add `first·second` to a block's keys in total, which the first block of a sequence finds empty."""
    keys = total[block.keys]
    if block.start == 0:
        torch.bmm(first, second, out=keys)
        total[block.sequences, block.last :].zero_()
    else:
        keys.baddbmm_(first, second)


class DenseRow(NamedTuple):
    """DenseAttention of one row of `length` steps, called like `local_attention.RowAttention`."""

    length: int
    kind: AttentionKind
    causal: bool
    bias: Bias | None
    hidden: Tensor | None

    @property
    def layout(self) -> Layout:
        """A layout with nothing around the rows."""
        return Square(self.length, self.length - 1, self.length - 1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self._attention().forward(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0)).squeeze(0)

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        *grads, grad_bias = self._attention().backward(*(x.unsqueeze(0) for x in (grad, q, k, v)))
        grad_q, grad_k, grad_v = (g.squeeze(0) for g in grads)
        return grad_q, grad_k, grad_v, grad_bias

    def _attention(self) -> DenseAttention:
        hidden = None if self.hidden is None else self.hidden.unsqueeze(0)
        if self.bias is None:
            return DenseAttention(self.kind, self.causal, hidden)
        positions = self.bias.positions
        if positions is None:
            positions = torch.arange(self.length, device=self.bias.table.device)
        table, origin = self.bias.table, self.bias.origin
        return DenseAttention(
            self.kind, self.causal, hidden, table=table, origin=origin, positions=positions.unsqueeze(0)
        )
