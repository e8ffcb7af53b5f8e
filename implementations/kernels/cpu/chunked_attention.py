"""Attention within chunks, its scores recomputed in the backward pass: memory linear in the length."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from implementations.kernels.cpu.dense_attention import DenseAttention
from implementations.ops.attention_functions import AttentionKind


class Chunks(NamedTuple):
    """Chunks of a batch's rows, one after another: each attends to itself alone."""

    size: int
    """Steps of a chunk."""
    kind: AttentionKind
    causal: bool
    padded: Tensor | None
    """`(chunks, size)` boolean, or None if nothing is padding."""

    @classmethod
    def of(
        cls,
        length: int,
        chunk: int | None,
        kind: AttentionKind,
        causal: bool,
        padding_mask: Tensor | None = None,
    ) -> "Chunks":
        """Chunks of rows of a length, by default whole rows; padding_mask `(batch, length)`.

        Raises ValueError if they do not divide the length.
        """
        size = min(chunk or length, length)
        if length % size:
            raise ValueError(f"{length} time steps are not a multiple of the chunk {size}: pad them")
        return cls(size, kind, causal, None if padding_mask is None else padding_mask.reshape(-1, size))

    def split(self, x: Tensor) -> Tensor:
        """`(chunks, size, ·)` of `(…, ·)`."""
        return x.reshape(-1, self.size, x.shape[-1])

    def scale(self, q: Tensor) -> Tensor | float:
        """Factor of queries `(chunks, size, z)`: `1/√z`, or one over the number of keys in reach of each."""
        if self.kind == "softmax":
            return float(q.shape[-1] ** -0.5)
        if self.causal:
            return 1.0 / torch.arange(1, self.size + 1, device=q.device, dtype=q.dtype)[:, None]
        if self.padded is None:
            return 1.0 / self.size
        return 1.0 / (~self.padded).sum(dim=-1).clamp(min=1).to(q.dtype)[:, None, None]

    def scales(self, like: Tensor, z: int) -> float | Tensor:
        """Factor of queries of z channels, a number or `(steps, 1)` in the precision of like `(steps, ·)`."""
        scale = self.scale(like.new_empty(len(like) // self.size, 1, z))
        if isinstance(scale, float):
            return scale
        return scale.expand(len(like) // self.size, self.size, 1).reshape(-1, 1)

    def attention(self, by_distance: Tensor) -> DenseAttention:
        """Attention of scaled queries; by_distance `(2·size − 1,)`: a key's bias by its distance."""
        hidden = self.padded
        if hidden is not None and self.kind == "softmax":
            # The softmax over a chunk of nothing but padding sees the padding.
            hidden = hidden & ~hidden.all(dim=-1, keepdim=True)
        return DenseAttention(self.kind, self.causal, hidden, by_distance)


def fused_chunked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    by_distance: Callable[[int], Tensor],
    *,
    chunk: int | None = None,
    kind: AttentionKind = "softmax",
    causal: bool = False,
    padding_mask: Tensor | None = None,
) -> Tensor:
    """`implementations.ops.chunked_attention.chunked_attention` with the same result.

    q, k `(batch, length, dim)`, v `(batch, length, width)`; by_distance gives `(2·size − 1,)`, the bias of a
    key that is 1 − size to size − 1 steps after the query. Computed in float32 at least.
    Returns `(batch, length, width)`. Raises ValueError if the chunks do not divide the length.
    """
    chunks = Chunks.of(q.shape[1], chunk, kind, causal, padding_mask)
    dtype = torch.promote_types(v.dtype, torch.float32)
    with torch.autocast(q.device.type, enabled=False):
        split = [chunks.split(x.to(dtype)) for x in (q, k, v)]
        split[0] = split[0] * chunks.scale(split[0])
        attended: Tensor = _ChunkedAttention.apply(  # type: ignore[no-untyped-call]
            *split, by_distance(chunks.size).to(dtype), chunks
        )
        return attended.view_as(v).to(v.dtype)


class _ChunkedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, by_distance: Tensor, chunks: Chunks) -> Tensor:
        ctx.save_for_backward(q, k, v, by_distance)
        ctx.chunks = chunks
        return chunks.attention(by_distance).forward(q, k, v)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, by_distance = ctx.saved_tensors
        attention = ctx.chunks.attention(by_distance)
        return *attention.backward(grads[0].contiguous(), q, k, v), None
