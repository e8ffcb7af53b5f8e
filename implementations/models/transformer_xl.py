"""Transformer-XL: a language model with segment-level recurrence and relative positions.

Dai et al., ACL 2019, arXiv 1901.02860. A sequence goes through all layers segment by segment; each layer
also attends to the `memory` states before its segment, through which no gradient flows. The head is a
softmax over the vocabulary, by the embedding's weights. As in the official code, there is no norm after the
last layer, whether the layers are post-norm (as published) or pre-norm.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import State, cache, distances
from implementations.embeddings import Sinusoids, embed
from implementations.encoder import Encoder
from implementations.fields import Config, Count
from implementations.heads import Pooling, with_head
from implementations.ops.attention import merge_heads, split_heads
from implementations.ops.segments import Memory, SegmentedStack
from implementations.task import Task

INITIAL_DEVIATION = 0.02
"""Standard deviation of all weights and of the biases u and v."""


@dataclass(frozen=True, kw_only=True)
class TransformerXLConfig(Config):
    """Hyper-parameters of Transformer-XL."""

    layers: int
    dim: int
    heads: int
    ffn: int
    """Width of the feed-forward network, and of a classifier's hidden layer."""
    d_head: int | None = None
    """Width of a head; dim / heads by default."""
    segment: int = 512
    """Time steps that are computed together."""
    memory: Count = 512
    """States before a segment that its layers attend to."""
    same_length: bool = False
    """Whether a query sees `memory` keys, itself among them, wherever in its segment it is."""
    clamp_length: Count | None = None
    """Largest distance; larger ones count as this."""
    prenorm: bool = False
    pooling: Pooling = "mean"
    dropout: float = 0.1
    """Dropout of embeddings, positions, hidden units, the output of each sub-layer and of the last layer."""
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.same_length and not self.memory:
            raise ValueError("same_length without memory leaves a query nothing to see")

    @property
    def head_width(self) -> int:
        """Width of a head. Raises ValueError if the heads do not divide the width."""
        if self.d_head is None and self.dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the width {self.dim}: give d_head")
        return self.d_head or self.dim // self.heads


class RelativeAttention(nn.Module):
    """Attention by content and distance, with its residual and norm: x `(batch, q, dim)` to the same.

    The score of query i and key j is `((q_i + u)·k_j + (q_i + v)·W r_{i−j}) / √d_head` (paper, section 3.3).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        d_head: int,
        *,
        prenorm: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.prenorm = prenorm
        self.qkv_net = nn.Linear(dim, 3 * heads * d_head, bias=False)
        self.r_net = nn.Linear(dim, heads * d_head, bias=False)
        self.o_net = nn.Linear(heads * d_head, dim, bias=False)
        self.layer_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.attention_dropout = nn.Dropout(attention_dropout)

    def forward(
        self, x: Tensor, memory: Tensor, r: Tensor, u: Tensor, v: Tensor, hidden: Tensor | None
    ) -> Tensor:
        """memory `(batch, m, dim)`; r `(m + q, dim)` the positions of distances m + q − 1 down to 0;
        u, v `(heads, d_head)`; hidden broadcast to `(batch, heads, q, m + q)`, True where a key is not seen.
        """
        length = x.shape[1]
        seen = torch.cat([memory, x], dim=1)
        query, key, value = self.qkv_net(self.layer_norm(seen) if self.prenorm else seen).chunk(3, dim=-1)
        q, k, values, distances = (
            split_heads(states, self.heads)
            for states in (query[:, -length:], key, value, self.r_net(r).unsqueeze(0))
        )
        scores = (q + u.unsqueeze(1)) @ k.mT + relative_shift((q + v.unsqueeze(1)) @ distances.mT)
        scores = scores * float(q.shape[-1] ** -0.5)
        if hidden is not None:
            scores = scores.masked_fill(hidden, float("-inf"))
        mixed = self.attention_dropout(scores.softmax(dim=-1)) @ values
        y: Tensor = x + self.dropout(self.o_net(merge_heads(mixed)))
        return y if self.prenorm else self.layer_norm(y)

    def state_after(self, x: Tensor, r: Tensor, reach: int) -> State:
        """Caches of keys and values `(batch, heads, reach, d_head)`; constant, `W r` by distance.

        r `(reach, dim)`: the positions of distances 0 to reach − 1.
        """
        _, key, value = self.qkv_net(self.layer_norm(x) if self.prenorm else x).chunk(3, dim=-1)
        memory = tuple(cache(split_heads(part, self.heads), reach) for part in (key, value))
        return State(memory, (split_heads(self.r_net(r).unsqueeze(0), self.heads),))

    def step(self, x: Tensor, state: State, time: int, u: Tensor, v: Tensor, sees: int) -> Tensor:
        """x `(batch, dim)` at a time step, which sees that many of the latest steps, itself among them."""
        (keys, values), (by_distance,) = state.memory, state.constants
        seen = self.layer_norm(x) if self.prenorm else x
        query, key, value = (
            split_heads(part.unsqueeze(1), self.heads) for part in self.qkv_net(seen).chunk(3, dim=-1)
        )
        place = time % keys.shape[2]
        keys[:, :, place], values[:, :, place] = key.squeeze(2), value.squeeze(2)
        distance = distances(time, keys.shape[2], x.device)
        positional = ((query + v.unsqueeze(1)) @ by_distance.mT)[..., distance]
        scores = ((query + u.unsqueeze(1)) @ keys.mT + positional) * float(query.shape[-1] ** -0.5)
        weights = scores.masked_fill(distance >= sees, float("-inf")).softmax(dim=-1)
        y: Tensor = x + self.o_net(merge_heads(weights @ values)).squeeze(1)
        return y if self.prenorm else self.layer_norm(y)


def relative_shift(x: Tensor) -> Tensor:
    """Row i moves left by `q − 1 − i`: `(…, q, k)` by reversed distance to `(…, q, k)` by key.

    What is moved in at the right comes after the query, and is meant to be masked.
    """
    *batch, q, k = x.shape
    return F.pad(x, (1, 0)).view(*batch, k + 1, q)[..., 1:, :].reshape(x.shape)


class PositionwiseFF(nn.Module):
    """Two linear maps with a ReLU between, a residual and a norm: `(batch, length, dim)`."""

    def __init__(self, dim: int, hidden: int, *, prenorm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.prenorm = prenorm
        self.CoreNet = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, dim),
            nn.Dropout(dropout),
        )
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.CoreNet(self.layer_norm(x) if self.prenorm else x)
        return y if self.prenorm else self.layer_norm(y)


class TransformerXLLayer(nn.Module):
    """Relative attention and a feed-forward network; see RelativeAttention for the arguments."""

    def __init__(self, config: TransformerXLConfig) -> None:
        super().__init__()
        self.dec_attn = RelativeAttention(
            config.dim,
            config.heads,
            config.head_width,
            prenorm=config.prenorm,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
        )
        self.pos_ff = PositionwiseFF(config.dim, config.ffn, prenorm=config.prenorm, dropout=config.dropout)

    def forward(
        self, x: Tensor, memory: Tensor, r: Tensor, u: Tensor, v: Tensor, hidden: Tensor | None
    ) -> Tensor:
        y: Tensor = self.pos_ff(self.dec_attn(x, memory, r, u, v, hidden))
        return y


class TransformerXLStack(SegmentedStack):
    """All layers, the biases u and v that they share, and the memory of each."""

    def __init__(self, config: TransformerXLConfig) -> None:
        super().__init__((TransformerXLLayer(config) for _ in range(config.layers)), config.segment)
        self.config = config
        self.positions = Sinusoids(config.dim)
        self.r_w_bias = nn.Parameter(torch.empty(config.heads, config.head_width))
        self.r_r_bias = nn.Parameter(torch.empty(config.heads, config.head_width))
        self.dropout = nn.Dropout(config.dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights, u and v `N(0, 0.02)`, biases 0."""
        for name, parameter in self.named_parameters():
            if name.endswith("layer_norm.weight"):
                nn.init.normal_(parameter, mean=1.0, std=INITIAL_DEVIATION)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=INITIAL_DEVIATION)

    def advance(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        last, remembered = super().advance(x, memory)
        return self.dropout(last), remembered

    def reach(self) -> list[int]:
        return [self.config.memory] * self.config.layers

    def states(self, x: Tensor, memory: Memory, reach: list[int]) -> list[Tensor]:
        config = self.config
        length, before = x.shape[1], memory[0].shape[1]
        r = self.dropout(self._distances(before + length))
        hidden = hidden_keys(length, before, config.memory if config.same_length else None, x.device)
        states = [x]
        for layer, remembered in zip(self.layers, memory, strict=True):
            states.append(layer(states[-1], remembered, r, self.r_w_bias, self.r_r_bias, hidden))
        return states

    def state_after(self, x: Tensor, room: int) -> State:
        """State of each layer, as far back as any query sees: a whole memory and its own segment."""
        reach = min(room, self.config.memory + self.segment)
        r = self._distances(reach).flip(0)
        attentions = (layer.dec_attn for layer in self._typed_layers())
        both = zip(attentions, self.taken_in(x), strict=True)
        return State(parts=tuple(attention.state_after(states, r, reach) for attention, states in both))

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        config = self.config
        first_seen = max(0, time - time % self.segment - config.memory)
        sees = time + 1 - first_seen
        if config.same_length:
            sees = min(sees, config.memory)
        for layer, part in zip(self._typed_layers(), state.parts, strict=True):
            x = layer.pos_ff(layer.dec_attn.step(x, part, time, self.r_w_bias, self.r_r_bias, sees))
        return x

    def _typed_layers(self) -> Iterator[TransformerXLLayer]:
        return (cast(TransformerXLLayer, layer) for layer in self.layers)

    def _distances(self, keys: int) -> Tensor:
        """`(keys, dim)`: sinusoids of the distances keys − 1 down to 0."""
        farthest = keys if self.config.clamp_length is None else self.config.clamp_length
        distances = torch.arange(keys - 1, -1, -1, device=self.r_w_bias.device).clamp(max=farthest)
        sinusoids: Tensor = self.positions(keys)
        return sinusoids[distances].to(self.r_w_bias.dtype)


def hidden_keys(length: int, before: int, reach: int | None, device: torch.device) -> Tensor:
    """`(length, before + length)`, True where a key comes after the query, or `reach` or more before it.

    before: states in the memory.
    """
    everywhere = torch.ones(length, before + length, dtype=torch.bool, device=device)
    later = everywhere.triu(1 + before)
    return later if reach is None else later | everywhere.tril(before - reach)


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """Transformer-XL for a task; see TransformerXLConfig. Raises TypeError on unknown hyper-parameters.

    A language model's output projection is its embedding, with a bias.
    """
    config = TransformerXLConfig(**hyperparameters)
    embedding = embed(task, config.dim)
    if task.head == "language-model":
        nn.init.normal_(embedding.weight, std=INITIAL_DEVIATION)  # type: ignore[arg-type]
    encoder = Encoder(
        embedding,
        [TransformerXLStack(config)],
        embedding_scale=math.sqrt(config.dim),
        dropout=config.dropout,
    )
    return with_head(task, encoder, config.dim, config.ffn, config.pooling, output="tied-bias")
