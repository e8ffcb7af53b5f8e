"""Reformer: attention within hash buckets, in reversible layers.

Kitaev et al., ICLR 2020, arXiv 2001.04451. A reversible layer is computed backwards from its outputs, so
that training holds the activations of one layer, whatever the depth.

Each layer hashes by rotations of its own, a buffer drawn at build (the official code redraws them at every
step). The place that a position is sorted to depends on all others: padding changes the chunks, and so the
logits; and the value of a causal output, though never its gradient, depends on later positions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.models.transformer import ACTIVATIONS, FrameConfig, frame
from implementations.ops.attention import merge_heads, split_heads
from implementations.ops.lsh_attention import full_attention, hash_buckets, lsh_attention
from implementations.ops.reversible import reversible
from implementations.task import Task


@dataclass(frozen=True, kw_only=True)
class ReformerConfig(FrameConfig):
    """Hyper-parameters of the Reformer; its layers are pre-norm."""

    qkv: int
    """Width of all heads together."""
    bucket: int = 64
    """Positions per bucket on average, and per chunk."""
    buckets: int | None = None
    """Number of buckets of the longest sequence, and of its chunks, in place of their size."""
    hashes: int = 4
    """Rounds of hashing."""
    across_buckets: bool = False
    allow_duplicates: bool = False
    attention_dropout: float = 0.1
    prenorm: bool = True


class ReformerAttention(nn.Module):
    """Hashed attention of states `(batch, length, dim)`, with one projection for queries and keys.

    bucket: a sequence of at most this length is attended in full; across_buckets, allow_duplicates: see
    lsh_attention. Raises ValueError on sequences longer than max_length.
    """

    rotations: Tensor

    def __init__(
        self,
        dim: int,
        heads: int,
        max_length: int,
        *,
        bucket: int,
        hashes: int,
        inner: int | None = None,
        causal: bool = False,
        across_buckets: bool = True,
        allow_duplicates: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inner = inner or dim
        if inner % heads:
            raise ValueError(f"{heads} heads do not divide the attention width {inner}")
        self.heads = heads
        self.bucket = bucket
        self.causal = causal
        self.across_buckets = across_buckets
        self.allow_duplicates = allow_duplicates
        self.toqk = nn.Linear(dim, inner, bias=False)
        self.tov = nn.Linear(dim, inner, bias=False)
        self.to_out = nn.Linear(inner, dim)
        self.dropout = nn.Dropout(dropout)
        pairs = -(-max_length // (2 * bucket))
        self.register_buffer("rotations", torch.randn(1, inner // heads, hashes, pairs))

    def forward(
        self, x: Tensor, padding_mask: Tensor | None = None, buckets: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Attended states, and the buckets `(batch·heads, hashes, length)` that were used.

        buckets: those of an earlier pass, to be used again; None hashes anew. None are returned if the
        sequence was attended in full.
        """
        batch, length, _ = x.shape
        short = length <= self.bucket
        if not short:
            x, padding_mask = _fill_up(x, padding_mask, 2 * self.bucket)
        qk, v = (split_heads(linear(x), self.heads).flatten(0, 1) for linear in (self.toqk, self.tov))
        rows_mask = None if padding_mask is None else padding_mask.repeat_interleave(self.heads, dim=0)
        if short:
            mixed = full_attention(qk, v, padding_mask=rows_mask, causal=self.causal, dropout=self.dropout)
        else:
            if buckets is None:
                buckets = hash_buckets(qk, self._rotations(x.shape[1]))
            mixed = lsh_attention(
                qk,
                v,
                buckets,
                self.bucket,
                padding_mask=rows_mask,
                causal=self.causal,
                across_buckets=self.across_buckets,
                allow_duplicates=self.allow_duplicates,
                dropout=self.dropout,
            ).output
        heads = mixed.view(batch, self.heads, *mixed.shape[1:])
        y: Tensor = self.to_out(merge_heads(heads[:, :, :length]))
        return y, buckets

    def _rotations(self, length: int) -> Tensor:
        """Rotations for a length that is a multiple of 2·bucket: `(1, d_head, hashes, buckets/2)`."""
        pairs, most = length // (2 * self.bucket), self.rotations.shape[-1]
        if pairs > most:
            longest = most * 2 * self.bucket
            raise ValueError(f"Reformer was built for sequences of at most {longest}, this one has {length}")
        return self.rotations[..., :pairs]


class AttentionStep(nn.Module):
    """Norm, attention, dropout: the half of a reversible layer that mixes positions."""

    def __init__(self, attention: ReformerAttention, dim: int, epsilon: float, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=epsilon)
        self.fn = attention
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, padding_mask: Tensor | None, memo: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """memo: the buckets of an earlier pass; see ReformerAttention."""
        y, buckets = self.fn(self.norm(x), padding_mask, memo)
        return self.dropout(y), buckets


class FeedForwardStep(nn.Module):
    """Norm, feed-forward network, dropout: the other half."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_epsilon)
        self.w1 = nn.Linear(config.dim, config.ffn)
        self.activation = ACTIVATIONS[config.activation]
        self.activation_dropout = nn.Dropout(config.activation_dropout)
        self.w2 = nn.Linear(config.ffn, config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, padding_mask: Tensor | None, memo: None) -> tuple[Tensor, None]:
        hidden = self.activation_dropout(self.activation(self.w1(self.norm(x))))
        return self.dropout(self.w2(hidden)), None


class ReformerStack(nn.Module):
    """All layers: states `(batch, length, dim)` to the same.

    From x₁ = x₂ = x, a layer is `x₁ ← x₁ + attention(x₂)`, `x₂ ← x₂ + feed_forward(x₁)`; the output is
    the mean of the two.
    """

    no_recurrent_form = "the place that a step is sorted to depends on all others"

    def __init__(self, config: ReformerConfig, max_length: int, causal: bool) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        for _ in range(config.layers):
            attention = _attention(config, max_length, causal)
            self.steps.append(AttentionStep(attention, config.dim, config.norm_epsilon, config.dropout))
            self.steps.append(FeedForwardStep(config))

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        first, second = reversible(list(self.steps), x, x, padding_mask)
        return (first + second) / 2


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """The Reformer for a task; see ReformerConfig.

    Raises TypeError on unknown hyper-parameters, ValueError if layers are not to be pre-norm.
    """
    config = ReformerConfig(**hyperparameters)
    if not config.prenorm:
        raise ValueError("the Reformer's reversible layers are pre-norm: prenorm can't be false")
    return frame(task, config, [ReformerStack(config, task.length, task.causal)])


def _attention(config: ReformerConfig, max_length: int, causal: bool) -> ReformerAttention:
    return ReformerAttention(
        config.dim,
        config.heads,
        max_length,
        bucket=-(-max_length // config.buckets) if config.buckets else config.bucket,
        hashes=config.hashes,
        inner=config.qkv,
        causal=causal,
        across_buckets=config.across_buckets,
        allow_duplicates=config.allow_duplicates,
        dropout=config.attention_dropout,
    )


def _fill_up(x: Tensor, padding_mask: Tensor | None, multiple: int) -> tuple[Tensor, Tensor | None]:
    """Masked zeros at the end, up to a multiple of a length."""
    batch, length, _ = x.shape
    missing = -length % multiple
    if missing == 0:
        return x, padding_mask
    if padding_mask is None:
        padding_mask = torch.zeros(batch, length, dtype=torch.bool, device=x.device)
    return F.pad(x, (0, 0, 0, missing)), F.pad(padding_mask, (0, missing), value=True)
