"""Attention within chunks, its scores recomputed in the backward pass: memory linear in the length."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from implementations.kernels.cpu.dense_attention import DenseAttention
from implementations.kernels.cpu.weights import AttentionKind


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
    length = q.shape[1]
    size = min(chunk or length, length)
    if length % size:
        raise ValueError(f"{length} time steps are not a multiple of the chunk {size}: pad them")
    dtype = torch.promote_types(v.dtype, torch.float32)
    with torch.autocast(q.device.type, enabled=False):
        split = [x.to(dtype).reshape(-1, size, x.shape[-1]) for x in (q, k, v)]
        padded = None if padding_mask is None else padding_mask.reshape(-1, size)
        split[0] = split[0] * _scale(split[0], kind, causal, padded)
        if padded is not None and kind == "softmax":
            # The softmax over a chunk of nothing but padding sees the padding.
            padded = padded & ~padded.all(dim=-1, keepdim=True)
        attended: Tensor = _ChunkedAttention.apply(  # type: ignore[no-untyped-call]
            *split, by_distance(size).to(dtype), padded, kind, causal
        )
        return attended.view_as(v).to(v.dtype)


def _scale(q: Tensor, kind: AttentionKind, causal: bool, padded: Tensor | None) -> Tensor | float:
    """Factor of the scores: `1/√dim`, or one over the number of keys in reach of each query."""
    size = q.shape[1]
    if kind == "softmax":
        return float(q.shape[-1] ** -0.5)
    if causal:
        return 1.0 / torch.arange(1, size + 1, device=q.device, dtype=q.dtype)[:, None]
    if padded is None:
        return 1.0 / size
    return 1.0 / (~padded).sum(dim=-1).clamp(min=1).to(q.dtype)[:, None, None]


class _ChunkedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        by_distance: Tensor,
        hidden: Tensor | None,
        kind: AttentionKind,
        causal: bool,
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, by_distance, hidden)
        ctx.kind, ctx.causal = kind, causal
        return DenseAttention(kind, causal, hidden, by_distance).forward(q, k, v)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, by_distance, hidden = ctx.saved_tensors
        attention = DenseAttention(ctx.kind, ctx.causal, hidden, by_distance)
        return *attention.backward(grads[0].contiguous(), q, k, v), None, None, None
