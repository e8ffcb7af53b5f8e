"""Attention within chunks of a sequence, as in MEGA-chunk (Ma et al., ICLR 2023, arXiv 2209.10655)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from implementations.ops.attention import causal_mask
from implementations.ops.attention_functions import AttentionKind, laplace, relu2


def chunked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Callable[[int], Tensor],
    *,
    chunk: int | None = None,
    kind: AttentionKind = "softmax",
    causal: bool = False,
    padding_mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Each query sees the keys of its own chunk, or if causal those up to itself.

    q, k `(batch, length, dim)`, v `(batch, length, width)`; bias gives `(size, size)` for chunks of that
    size; padding_mask `(batch, length)` True at padding; dropout on the weights. chunk: None, or a chunk
    longer than the sequence, makes it one chunk. Linear in the length for a given chunk.

    Returns `(batch, length, width)`. Raises ValueError if the chunks do not divide the length.
    """
    length = q.shape[1]
    size = min(chunk or length, length)
    if length % size:
        raise ValueError(f"{length} time steps are not a multiple of the chunk {size}: pad them")

    def split(x: Tensor) -> Tensor:
        return x.reshape(-1, size, *x.shape[2:])

    mask = None if padding_mask is None else split(padding_mask)
    weights = attention_weights(split(q), split(k), bias(size), kind, causal, mask)
    return (F.dropout(weights, dropout, training=dropout > 0.0) @ split(v)).view_as(v)


def attention_weights(
    q: Tensor, k: Tensor, bias: Tensor, kind: AttentionKind, causal: bool, padding_mask: Tensor | None
) -> Tensor:
    """Weights `(chunks, size, size)` of q, k `(chunks, size, dim)` and padding_mask `(chunks, size)`.

    bias `(size, size)`. Softmax scores are `q·k/√dim + bias`, others `q·k/n + bias`: n the real keys of the
    chunk (at least 1) or, causal, those up to the query, padded or not. Padded and later keys weigh nothing,
    except that the softmax over a chunk of nothing but padding sees the padding.
    Raises ValueError for an unknown kind.
    """
    size = q.shape[1]
    later = causal_mask(size, q.device) if causal else None
    if kind == "softmax":
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(1, 2) + bias
        if padding_mask is not None:
            padding_mask = padding_mask & ~padding_mask.all(dim=-1, keepdim=True)
        return _fill(scores, padding_mask, later, float("-inf")).softmax(dim=-1)
    if kind not in ("relu2", "laplace"):
        raise ValueError(f"unknown attention {kind!r}: choose softmax, relu2 or laplace")
    scores = q @ k.transpose(1, 2) / _keys_in_reach(q, causal, padding_mask) + bias
    return _fill(relu2(scores) if kind == "relu2" else laplace(scores), padding_mask, later, 0.0)


def _keys_in_reach(q: Tensor, causal: bool, padding_mask: Tensor | None) -> Tensor | int:
    size = q.shape[1]
    if causal:
        return torch.arange(1, size + 1, device=q.device, dtype=q.dtype)[:, None]
    if padding_mask is None:
        return size
    return (~padding_mask).sum(dim=-1).clamp(min=1).to(q.dtype)[:, None, None]


def _fill(x: Tensor, padding_mask: Tensor | None, later: Tensor | None, value: float) -> Tensor:
    if padding_mask is not None:
        x = x.masked_fill(padding_mask[:, None, :], value)
    return x if later is None else x.masked_fill(later, value)
