"""Adaptive Span: a Transformer whose heads learn how far back they look.

Sukhbaatar et al., ACL 2019, arXiv 1905.07799. A head attends to the positions strictly before the query,
at most `span` of them, under a soft mask that falls to 0 beyond its learned length. Positions that no head of
a layer reaches are neither remembered nor computed, in steps of 64. A sequence goes through all layers in
segments; the states before a segment carry no gradient, and those before the sequence are zeros, which
are attended to like any other (as in the official code).

Training adds `Σ S·mean(z)` over the layers (`AdaptiveMask.loss`), times a small coefficient, to the loss.
Spans start at 0: as initialised every layer looks 64 steps back, and a trained model further.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import State, cache
from implementations.embeddings import embed
from implementations.encoder import Encoder
from implementations.exact_buffers import kept_wide
from implementations.fields import Config
from implementations.heads import Pooling, with_head
from implementations.ops.attention import merge_heads, split_heads
from implementations.ops.segments import Memory, SegmentedStack
from implementations.ops.sizes import expected
from implementations.task import Task

GRAIN = 64
"""The longest span is trimmed by a multiple of this many positions."""
EPSILON = 1e-8


@dataclass(frozen=True, kw_only=True)
class AdaptiveSpanConfig(Config):
    """Hyper-parameters of Adaptive Span."""

    layers: int
    dim: int
    heads: int
    ffn: int
    """Width of the feed-forward network, and of a classifier's hidden layer."""
    span: int = 8192
    """The longest span (S), in time steps."""
    adaptive: bool = True
    """Whether spans are learned; else every head sees all S positions."""
    ramp: int = 32
    """Time steps over which the mask falls from 1 to 0 (R)."""
    initial_span: float = 0.0
    """Initial spans, as a share of the longest."""
    segment: int = 512
    """Time steps that are computed together."""
    pooling: Pooling = "mean"
    dropout: float = 0.3
    """Dropout of the attention weights and of the feed-forward network's hidden units."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the width {self.dim}")
        if not 0.0 <= self.initial_span <= 1.0:
            raise ValueError(f"initial_span is a share of the longest span, not {self.initial_span}")


class AdaptiveMask(nn.Module):
    """`clamp(1 + (z·S − distance)/R, 0, 1)`, distance from 0 for the latest position (paper, equation 4).

    A head's z, its span as a share of the longest S, is learned.
    """

    mask_template: Tensor

    def __init__(self, heads: int, span: int, ramp: int, initial: float = 0.0) -> None:
        super().__init__()
        self.span = span
        self.ramp = ramp
        self.initial = initial
        self.current_val = nn.Parameter(torch.full((heads, 1, 1), initial))
        self.register_buffer("mask_template", torch.linspace(1 - span, 0, span), persistent=False)

    def forward(self, weights: Tensor) -> Tensor:
        """weights `(batch, heads, queries, window)`, masked and normalised again."""
        # Training brings spans back into range at each step; its last update may leave them out of it.
        z = self.current_val if self.training else self.current_val.clamp(0, 1)
        reach = self.mask_template[-weights.shape[-1] :] + z.to(self.mask_template.dtype) * self.span
        masked = weights * (reach / self.ramp + 1).clamp(0, 1).to(z.dtype)
        return masked / (masked.sum(dim=-1, keepdim=True) + EPSILON)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "AdaptiveMask":
        exact = self.mask_template
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # In half precision neighbours beyond 256 steps would have one distance.
        self.mask_template = kept_wide(exact, self.mask_template)
        return self

    def window(self, longest: float) -> int:
        """Number of positions that the longest z of the heads gives any weight, rounded up."""
        reach = min(self.span, math.ceil(longest * self.span) + self.ramp)
        return self.span - min(self.span - 1, self.span - reach) // GRAIN * GRAIN

    def loss(self) -> Tensor:
        """`S·mean(z)`: the mean span in time steps."""
        return self.span * self.current_val.mean()


class SpanAttention(nn.Module):
    """Attention of a segment to the `window` positions before each query.

    mask: an AdaptiveMask, or None if all positions of the window are seen.
    """

    def __init__(self, mask: AdaptiveMask | None, dropout: float = 0.0) -> None:
        super().__init__()
        self.mask = mask
        self.dropout = nn.Dropout(dropout)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_pe: Tensor, window: int) -> Tensor:
        """q `(batch, heads, m, d_head)`; k and v `(batch, heads, n + m, d_head)`, those of n positions before
        the segment first; key_pe `(1, d_head, span)`. Returns the shape of q.

        Score of query i and the position d before it: `q_i·(k_{i−d} + pe_d) / √d_head`. If n is less than the
        window, keys and values before them are zeros.
        """
        length = q.shape[-2]
        # Short windows go in blocks of queries, so that most products of a block fall into its band.
        blocks = max(1, length // window)
        block = -(-length // blocks)
        missing = blocks * block - length
        q = F.pad(q, (0, 0, 0, missing)).view(*q.shape[:2], blocks, block, -1)
        k, v = (F.pad(x, (0, 0, window + length - x.shape[-2], missing)) for x in (k, v))
        k, v = (x.unfold(-2, block + window, block).mT for x in (k, v))
        scores = (band(q @ k.mT) + q @ key_pe[..., -window:]) * float(q.shape[-1] ** -0.5)
        weights = scores.softmax(dim=-1).flatten(-3, -2)
        if self.mask is not None:
            weights = self.mask(weights)
        mixed = unband(self.dropout(weights).view_as(scores)) @ v
        return mixed.flatten(-3, -2)[..., :length, :]

    def recall(self, q: Tensor, keys: Tensor, values: Tensor, key_pe: Tensor, time: int) -> Tensor:
        """One query `(batch, heads, 1, d_head)` at a time step; keys and values of the window's size before
        it, step t at t modulo that size."""
        size = keys.shape[-2]
        # Rolled, so that the oldest comes first, as in the positions.
        scores = (q @ keys.mT).roll(-(time % size), dims=-1) + q @ key_pe[..., -size:]
        weights = (scores * float(q.shape[-1] ** -0.5)).softmax(dim=-1)
        if self.mask is not None:
            weights = self.mask(weights)
        return weights.roll(time % size, dims=-1) @ values


def windows(masks: list[AdaptiveMask]) -> list[int]:
    """Window of each mask; waits for the device, once for all masks.

    If sizes are not read, the window as initialised.
    """
    if not masks:
        return []
    if expected() is not None:
        longest = [mask.initial for mask in masks]
    else:
        longest = torch.stack([mask.current_val.max() for mask in masks]).tolist()
    return [mask.window(min(max(z, 0.0), 1.0)) for mask, z in zip(masks, longest, strict=True)]


def band(x: Tensor) -> Tensor:
    """The `w` columns from i on of each row i: `(…, m, w + m)` to `(…, m, w)`."""
    *batch, rows, columns = x.shape
    shifted = F.pad(x.flatten(-2), (0, rows)).view(*batch, rows, columns + 1)
    return shifted[..., : columns - rows]


def unband(x: Tensor) -> Tensor:
    """The inverse of `band`, zeros beside it: `(…, m, w)` to `(…, m, w + m)`."""
    *batch, rows, width = x.shape
    flat = F.pad(x, (0, rows + 1)).flatten(-2)
    return flat[..., :-rows].view(*batch, rows, width + rows)


class MultiHeadSpanAttention(nn.Module):
    """Projections to heads, without bias, around SpanAttention: x `(batch, m, dim)` to the same."""

    def __init__(self, dim: int, heads: int, attention: SpanAttention) -> None:
        super().__init__()
        self.heads = heads
        self.attn = attention
        self.proj_query = nn.Linear(dim, dim, bias=False)
        self.proj_key = nn.Linear(dim, dim, bias=False)
        self.proj_val = nn.Linear(dim, dim, bias=False)
        self.proj_out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, memory: Tensor, key_pe: Tensor, window: int) -> Tensor:
        """memory `(batch, n, dim)`, the states before the segment; key_pe `(1, d_head, span)`."""
        seen = torch.cat([memory[:, -window:], x], dim=1)
        q = split_heads(self.proj_query(x), self.heads)
        k, v = (split_heads(project(seen), self.heads) for project in (self.proj_key, self.proj_val))
        y: Tensor = self.proj_out(merge_heads(self.attn(q, k, v, key_pe, window)))
        return y

    def state_after(self, x: Tensor, window: int) -> State:
        """Caches of keys and values `(batch, heads, window, d_head)`; those before the sequence are zeros."""
        k, v = (split_heads(project(x), self.heads) for project in (self.proj_key, self.proj_val))
        return State((cache(k, window), cache(v, window)))

    def step(self, x: Tensor, state: State, key_pe: Tensor, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape; it sees the steps before it only."""
        keys, values = state.memory
        q, k, v = (
            split_heads(project(x).unsqueeze(1), self.heads)
            for project in (self.proj_query, self.proj_key, self.proj_val)
        )
        y: Tensor = self.proj_out(merge_heads(self.attn.recall(q, keys, values, key_pe, time))).squeeze(1)
        place = time % keys.shape[2]
        keys[:, :, place], values[:, :, place] = k.squeeze(2), v.squeeze(2)
        return y


class FeedForward(nn.Module):
    """`fc2(relu(fc1(x)))`."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(self.dropout(F.relu(self.fc1(x))))
        return y


class AdaptiveSpanLayer(nn.Module):
    """Attention and a feed-forward network, a norm after each sum; arguments of MultiHeadSpanAttention."""

    def __init__(self, config: AdaptiveSpanConfig) -> None:
        super().__init__()
        mask = AdaptiveMask(config.heads, config.span, config.ramp, config.initial_span)
        attention = SpanAttention(mask if config.adaptive else None, config.dropout)
        self.attn = MultiHeadSpanAttention(config.dim, config.heads, attention)
        self.ff = FeedForward(config.dim, config.ffn, config.dropout)
        self.norm1 = nn.LayerNorm(config.dim)
        self.norm2 = nn.LayerNorm(config.dim)

    def forward(self, x: Tensor, memory: Tensor, key_pe: Tensor, window: int) -> Tensor:
        return self._feed_forward(x, self.attn(x, memory, key_pe, window))

    def step(self, x: Tensor, state: State, key_pe: Tensor, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        return self._feed_forward(x, self.attn.step(x, state, key_pe, time))

    def _feed_forward(self, x: Tensor, attended: Tensor) -> Tensor:
        x = self.norm1(x + attended)
        y: Tensor = self.norm2(x + self.ff(x))
        return y


class AdaptiveSpanStack(SegmentedStack):
    """All layers, and the embedding of positions in the span that they share."""

    def __init__(self, config: AdaptiveSpanConfig) -> None:
        super().__init__((AdaptiveSpanLayer(config) for _ in range(config.layers)), config.segment)
        self.config = config
        self.key_pe = nn.Parameter(torch.randn(1, config.dim // config.heads, config.span))

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        if self.training:
            self._project_spans()
        return super().forward(x, padding_mask)

    def states(self, x: Tensor, memory: Memory, reach: list[int]) -> list[Tensor]:
        states = [x]
        for layer, before, window in zip(self.layers, memory, reach, strict=True):
            states.append(layer(states[-1], before, self.key_pe, window))
        return states

    def state_after(self, x: Tensor, room: int) -> State:
        """State of each layer, as long as its window whatever the room: zeros before the start are seen."""
        layers = zip(self._typed_layers(), self.taken_in(x), self.reach(), strict=True)
        return State(parts=tuple(layer.attn.state_after(states, window) for layer, states, window in layers))

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        for layer, part in zip(self._typed_layers(), state.parts, strict=True):
            x = layer.step(x, part, self.key_pe, time)
        return x

    def _typed_layers(self) -> Iterator[AdaptiveSpanLayer]:
        return (cast(AdaptiveSpanLayer, layer) for layer in self.layers)

    def masks(self) -> list[AdaptiveMask]:
        """Masks of the layers; empty if spans are fixed."""
        return [module for module in self.modules() if isinstance(module, AdaptiveMask)]

    def reach(self) -> list[int]:
        return windows(self.masks()) or [self.config.span] * self.config.layers

    @torch.no_grad()
    def _project_spans(self) -> None:
        """Clamp spans to [0, 1] after an optimiser's step: projected gradient descent."""
        for mask in self.masks():
            mask.current_val.clamp_(0, 1)


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """Adaptive Span for a task; see AdaptiveSpanConfig. Raises TypeError on unknown hyper-parameters."""
    config = AdaptiveSpanConfig(**hyperparameters)
    encoder = Encoder(embed(task, config.dim), [AdaptiveSpanStack(config)])
    return with_head(task, encoder, config.dim, config.ffn, config.pooling)
