"""MEGA and MEGA-chunk: moving average equipped gated attention (Ma et al., ICLR 2023, arXiv 2209.10655).

`mega` attends over the whole sequence, in quadratic time; `mega-chunk` within chunks, in linear time.
The damped EMA carries context from chunk to chunk.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import State, cache
from implementations.embeddings import embed
from implementations.encoder import Encoder
from implementations.fields import Config
from implementations.heads import with_head
from implementations.ops.attention_functions import AttentionKind, attend
from implementations.ops.chunked_attention import chunked_attention
from implementations.ops.ema import DampedEMA
from implementations.ops.norms import NormKind, SequenceNorm
from implementations.task import Task

BiasKind = Literal["simple", "rotary"]

INITIAL_DEVIATION = 0.02
"""Standard deviation of linear weights, of the query and key scales and of the biases."""


@dataclass(frozen=True, kw_only=True)
class MegaConfig(Config):
    """Hyper-parameters of MEGA."""

    layers: int
    dim: int
    hidden: int
    """Width of the attention's values, and of the classifier's hidden layer."""
    attention_dim: int
    """Width of queries and keys (Z)."""
    ffn: int
    states: int = 16
    """EMA states per channel (N)."""
    chunk: int | None = None
    """Time steps that attend to one another; None for the whole sequence."""
    truncation: int | None = None
    """Longest EMA kernel in time steps; None for the whole sequence."""
    attention: AttentionKind = "softmax"
    relative_bias: BiasKind = "simple"
    norm: NormKind = "layernorm"
    prenorm: bool = False
    norm_affine: bool = True
    """Whether the layers' norms scale and shift."""
    final_norm_affine: bool = True
    dropout: float = 0.0
    """Dropout of the embedding, the EMA's output and the output of each sub-layer."""
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    """Dropout of the attention's values and the feed-forward network's hidden units."""


class SimpleRelativeBias(nn.Module):
    """`bias[i, j] = table[max_positions − 1 + j − i]`."""

    def __init__(self, max_positions: int) -> None:
        super().__init__()
        self.max_positions = max_positions
        table = torch.empty(2 * max_positions - 1)
        self.rel_pos_bias = nn.Parameter(nn.init.normal_(table, std=INITIAL_DEVIATION))

    def forward(self, length: int) -> Tensor:
        """`(length, length)`. Raises ValueError if the length is beyond the table."""
        # Row i is the window of the table that starts at max_positions − 1 − i.
        return self.by_distance(length).unfold(0, length, 1).flip(0)

    def by_distance(self, length: int) -> Tensor:
        """`(2·length − 1,)`: the bias of a key that is 1 − length to length − 1 steps after the query.

        Raises ValueError if the length is beyond the table.
        """
        if length > self.max_positions:
            raise ValueError(
                f"{length} time steps are beyond the {self.max_positions} that the relative bias knows"
            )
        start = self.max_positions - length
        return self.rel_pos_bias[start : start + 2 * length - 1]


class RotaryRelativeBias(nn.Module):
    """`bias[i, j] = ⟨R_i α, R_j β⟩`: R_t turns the pairs (k, k + dim/2) by `t·10000^(-2k/dim)`.

    Queries and keys themselves are not rotated. Raises ValueError if dim is odd.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"the rotary bias turns pairs: {dim} is odd")
        self.alpha = nn.Parameter(nn.init.normal_(torch.empty(1, dim), std=INITIAL_DEVIATION))
        self.beta = nn.Parameter(nn.init.normal_(torch.empty(1, dim), std=INITIAL_DEVIATION))

    def forward(self, length: int) -> Tensor:
        """`(length, length)`."""
        dim, device = self.alpha.shape[1], self.alpha.device
        # Angles of late positions have no digits left in half precision.
        dtype = torch.promote_types(self.alpha.dtype, torch.float32)
        frequency = 10000.0 ** (-torch.arange(0, dim, 2, device=device, dtype=dtype) / dim)
        angle = torch.outer(torch.arange(length, device=device, dtype=dtype), frequency)
        return _rotate(self.alpha, angle) @ _rotate(self.beta, angle).T

    def by_distance(self, length: int) -> Tensor:
        """`(2·length − 1,)`: the bias of a key that is 1 − length to length − 1 steps after the query.

        `⟨R_i α, R_j β⟩` of two turns depends on j − i alone.
        """
        dim, device = self.alpha.shape[1], self.alpha.device
        dtype = torch.promote_types(self.alpha.dtype, torch.float32)
        frequency = 10000.0 ** (-torch.arange(0, dim, 2, device=device, dtype=dtype) / dim)
        angle = torch.outer(torch.arange(1 - length, length, device=device, dtype=dtype), frequency)
        (first, second), (other_first, other_second) = (x[0].chunk(2) for x in (self.alpha, self.beta))
        same = first * other_first + second * other_second
        crossed = second * other_first - first * other_second
        return angle.cos() @ same.to(dtype) + angle.sin() @ crossed.to(dtype)


def _rotate(x: Tensor, angle: Tensor) -> Tensor:
    sin, cos = angle.sin().to(x.dtype), angle.cos().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _relative_bias(config: MegaConfig, max_positions: int) -> SimpleRelativeBias | RotaryRelativeBias:
    if config.relative_bias == "rotary":
        return RotaryRelativeBias(config.attention_dim)
    return SimpleRelativeBias(max_positions)


class MovingAverageGatedAttention(nn.Module):
    """One MEGA layer without its feed-forward network, `(batch, length, dim)`.

    causal: the attention sees no later key; bidirectional: the EMA looks ahead, by default if the
    attention does; max_positions: the longest sequence that the bias `simple` takes without chunks.
    Other forms of the same function override `average` and `attention`: the parameters stay.
    """

    def __init__(
        self,
        config: MegaConfig,
        *,
        causal: bool = False,
        bidirectional: bool | None = None,
        max_positions: int = 1024,
    ) -> None:
        super().__init__()
        dim, hidden, z = config.dim, config.hidden, config.attention_dim
        self.config = config
        self.causal = causal
        self.norm = SequenceNorm(config.norm, dim, config.norm_affine)
        self.move = DampedEMA(
            dim, config.states, not causal if bidirectional is None else bidirectional, config.truncation
        )
        self.v_proj = _linear(dim, hidden)
        self.mx_proj = _linear(dim, dim + z + hidden + dim)
        self.h_proj = _linear(hidden, dim)
        self.gamma = nn.Parameter(nn.init.normal_(torch.empty(2, z), std=INITIAL_DEVIATION))
        self.beta = nn.Parameter(torch.zeros(2, z))
        self.rel_pos_bias = _relative_bias(config, config.chunk or max_positions)
        self.dropout = nn.Dropout(config.dropout)
        self.hidden_dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        u = self.norm(x) if self.config.prenorm else x
        v = self.hidden_dropout(F.silu(self.v_proj(u)))
        update, q, k, r, candidate = self._project(self.average(u, padding_mask))
        return self._gate(x, update, candidate, self.attention(q, k, v, padding_mask) * F.silu(r))

    def state_after(self, x: Tensor, room: int) -> State:
        """State of the average, and caches of the chunk's keys `(batch, chunk, attention_dim)` and values
        `(batch, chunk, hidden)`; constant, the bias by distance."""
        u = self.norm(x) if self.config.prenorm else x
        size = min(self.config.chunk or room, room)
        _, _, k, _, _ = self._project(self.average(u, None))
        v = F.silu(self.v_proj(u))
        caches = State(
            (cache(k, size), cache(v, size)), (self.rel_pos_bias.by_distance(size).to(self.gamma.dtype),)
        )
        return State(parts=(self.move.state_after(u, room), caches))

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        average, caches = state.parts
        (keys, values), (bias,) = caches.memory, caches.constants
        u = self.norm(x) if self.config.prenorm else x
        update, q, k, r, candidate = self._project(self.move.step(u, average, time))
        size = keys.shape[1]
        place = time % size
        keys[:, place], values[:, place] = k, F.silu(self.v_proj(u))
        seen = slice(place + 1)
        scale = q.shape[-1] ** -0.5 if self.config.attention == "softmax" else 1.0 / (place + 1)
        scores = (q * scale).unsqueeze(1) @ keys[:, seen].mT + bias[size - 1 - place : size]
        attended = attend(scores, values[:, seen], None, self.config.attention).squeeze(1)
        return self._gate(x, update, candidate, attended * F.silu(r))

    def _project(self, average: Tensor) -> tuple[Tensor, ...]:
        """Update gate, query, key, output gate and candidate of each step."""
        config = self.config
        m = self.dropout(F.silu(average))
        widths = [config.dim, config.attention_dim, config.hidden, config.dim]
        update, z, r, candidate = self.mx_proj(m).split(widths, dim=-1)
        q, k = (F.silu(z).unsqueeze(-2) * self.gamma + self.beta).unbind(dim=-2)
        return update, q, k, r, candidate

    def _gate(self, x: Tensor, update: Tensor, candidate: Tensor, attended: Tensor) -> Tensor:
        h = self.dropout(F.silu(candidate + self.h_proj(attended)))
        y: Tensor = x + update.sigmoid() * (h - x)
        return y if self.config.prenorm else self.norm(y)

    def average(self, u: Tensor, padding_mask: Tensor | None) -> Tensor:
        """The damped EMA: `(batch, length, dim)`."""
        y: Tensor = self.move(u, padding_mask)
        return y

    def attention(self, q: Tensor, k: Tensor, v: Tensor, padding_mask: Tensor | None) -> Tensor:
        """q, k `(batch, length, attention_dim)`, v and the result `(batch, length, hidden)`."""
        return chunked_attention(
            q,
            k,
            v,
            self.rel_pos_bias,
            chunk=self.config.chunk,
            kind=self.config.attention,
            causal=self.causal,
            padding_mask=padding_mask,
            dropout=self.config.attention_dropout if self.training else 0.0,
        )


class FeedForward(nn.Module):
    """`x + fc2(silu(fc1(norm(x))))`, or with the norm after the sum: `(batch, length, dim)`."""

    def __init__(self, config: MegaConfig) -> None:
        super().__init__()
        self.prenorm = config.prenorm
        self.norm = SequenceNorm(config.norm, config.dim, config.norm_affine)
        self.fc1 = _linear(config.dim, config.ffn)
        self.fc2 = _linear(config.ffn, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.hidden_dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor) -> Tensor:
        u = self.norm(x) if self.prenorm else x
        y: Tensor = x + self.dropout(self.fc2(self.hidden_dropout(F.silu(self.fc1(u)))))
        return y if self.prenorm else self.norm(y)


class MegaLayer(nn.Module):
    """Gated attention and a feed-forward network: `(batch, length, dim)`."""

    def __init__(self, mega_layer: MovingAverageGatedAttention, nffn: FeedForward) -> None:
        super().__init__()
        self.mega_layer = mega_layer
        self.nffn = nffn

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        y: Tensor = self.nffn(self.mega_layer(x, padding_mask))
        return y

    def state_after(self, x: Tensor, room: int) -> State:
        """State of the gated attention."""
        return self.mega_layer.state_after(x, room)

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        y: Tensor = self.nffn(self.mega_layer.step(x, state, time))
        return y


def build(
    task: Task,
    hyperparameters: Mapping[str, Any],
    gated_attention: type[MovingAverageGatedAttention] = MovingAverageGatedAttention,
) -> nn.Module:
    """MEGA for a task; see MegaConfig. Raises TypeError on unknown hyper-parameters.

    A language model's embeddings are times √dim, and its output projection is its embedding, without a bias.
    gated_attention: a subclass that computes the same function in another form.
    """
    config = MegaConfig(**hyperparameters)
    encoder = Encoder(
        embed(task, config.dim),
        [
            MegaLayer(
                gated_attention(config, causal=task.causal, max_positions=task.length), FeedForward(config)
            )
            for _ in range(config.layers)
        ],
        final_norm=SequenceNorm(config.norm, config.dim, config.final_norm_affine)
        if config.prenorm
        else None,
        embedding_scale=math.sqrt(config.dim) if task.head == "language-model" else 1.0,
        dropout=config.dropout,
        pad_to=config.chunk or 1,
    )
    # MEGA's two-tower classifier reads the two representations alone, without their product and difference.
    return with_head(
        task, encoder, config.dim, config.hidden, interactions=False, dropout=config.dropout, output="tied"
    )


def _linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.normal_(linear.weight, std=INITIAL_DEVIATION)
    nn.init.zeros_(linear.bias)
    return linear
