"""Attention within chunks of a sequence, as in MEGA-chunk (Ma et al., ICLR 2023, section 3.5)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.ops.attention import causal_mask

AttentionKind = Literal["softmax", "relu2", "laplace"]


def relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


def laplace(x: Tensor) -> Tensor:
    """`½(1 + erf((x − μ) / (σ√2)))`, μ = √½, σ = √(1/4π): relu²'s smooth and bounded likeness."""
    return 0.5 * (1.0 + torch.erf((x - 0.707107) / (0.282095 * 2**0.5)))


class ChunkedAttention(nn.Module):
    """Single-head attention within chunks of the sequence, with a relative bias on the scores.

    bias: gives `(size, size)` for a chunk of that size. chunk: None, or a chunk longer than the sequence,
    makes it one chunk; a longer sequence must be a multiple of it. Padded and (causal) later keys weigh
    nothing, except that the softmax over a chunk of nothing but padding sees the padding.
    """

    def __init__(
        self,
        kind: AttentionKind,
        bias: nn.Module,
        *,
        chunk: int | None = None,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if kind not in ("softmax", "relu2", "laplace"):
            raise ValueError(f"unknown attention {kind!r}: choose softmax, relu2 or laplace")
        self.kind = kind
        self.rel_pos_bias = bias
        self.chunk = chunk
        self.causal = causal
        self.dropout = nn.Dropout(dropout)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """q, k `(batch, length, z)`, v `(batch, length, hidden)`, mask `(batch, length)`; the shape of v.

        Raises ValueError where the chunks do not divide the length.
        """
        mask = None if padding_mask is None else self._split(padding_mask)
        weights: Tensor = self.dropout(self.weights(self._split(q), self._split(k), mask))
        return (weights @ self._split(v)).view_as(v)

    def weights(self, q: Tensor, k: Tensor, padding_mask: Tensor | None) -> Tensor:
        """`(chunks, size, size)` of queries and keys `(chunks, size, z)`, mask `(chunks, size)`."""
        size = q.shape[1]
        later = causal_mask(size, q.device) if self.causal else None
        if self.kind == "softmax":
            scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(1, 2) + self.rel_pos_bias(size)
            if padding_mask is not None:
                padding_mask = padding_mask & ~padding_mask.all(dim=-1, keepdim=True)
            return _fill(scores, padding_mask, later, float("-inf")).softmax(dim=-1)
        scores = q @ k.transpose(1, 2) / self._counts(size, padding_mask, q) + self.rel_pos_bias(size)
        return _fill(relu2(scores) if self.kind == "relu2" else laplace(scores), padding_mask, later, 0.0)

    def _counts(self, size: int, padding_mask: Tensor | None, like: Tensor) -> Tensor | int:
        """How many keys there are to see, at least 1; a causal query counts padded ones too."""
        if self.causal:
            return torch.arange(1, size + 1, device=like.device, dtype=like.dtype)[:, None]
        if padding_mask is None:
            return size
        return (~padding_mask).sum(dim=-1).clamp(min=1).to(like.dtype)[:, None, None]

    def _split(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        size = length if self.chunk is None else min(self.chunk, length)
        if length % size:
            raise ValueError(f"{length} time steps are no multiple of the chunk {size}: pad them")
        return x.reshape(-1, size, *x.shape[2:])


def _fill(x: Tensor, padding_mask: Tensor | None, later: Tensor | None, value: float) -> Tensor:
    if padding_mask is not None:
        x = x.masked_fill(padding_mask[:, None, :], value)
    return x if later is None else x.masked_fill(later, value)
