"""MEGA and MEGA-chunk: moving average equipped gated attention (Ma et al., ICLR 2023, arXiv 2209.10655).

`mega` attends over the whole sequence, in quadratic time; `mega-chunk` within chunks, in linear time.
The damped EMA carries context from chunk to chunk.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.encoder import Encoder, embed, with_head
from implementations.ops.chunked_attention import AttentionKind, ChunkedAttention
from implementations.ops.ema import DampedEMA
from implementations.ops.norms import NormKind, SequenceNorm
from implementations.task import Task

BiasKind = Literal["simple", "rotary"]

INITIAL_STD = 0.02


@dataclass(frozen=True, kw_only=True)
class MegaConfig:
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
    final_norm_affine: bool = True
    dropout: float = 0.0
    """On the embedding, the EMA's output and the output of each sub-layer."""
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    """On the attention's values and the feed-forward network's hidden units."""


class SimpleRelativeBias(nn.Module):
    """`bias[i, j] = table[max_positions − 1 + j − i]`."""

    def __init__(self, max_positions: int) -> None:
        super().__init__()
        self.max_positions = max_positions
        self.rel_pos_bias = nn.Parameter(torch.empty(2 * max_positions - 1))
        nn.init.normal_(self.rel_pos_bias, std=INITIAL_STD)

    def forward(self, length: int) -> Tensor:
        """`(length, length)`. Raises ValueError where the length is beyond the table."""
        if length > self.max_positions:
            raise ValueError(
                f"{length} time steps are beyond the {self.max_positions} that the relative bias knows"
            )
        start = self.max_positions - length
        # Row i is the window of the table that starts at max_positions − 1 − i.
        return self.rel_pos_bias[start : start + 2 * length - 1].unfold(0, length, 1).flip(0)


class RotaryRelativeBias(nn.Module):
    """`bias[i, j] = ⟨R_i α, R_j β⟩`: R_t turns the pairs (k, k + dim/2) by `t·10000^(-2k/dim)`.

    Queries and keys themselves are not rotated. Raises ValueError where dim is odd.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"the rotary bias turns pairs: {dim} is odd")
        self.alpha = nn.Parameter(torch.empty(1, dim))
        self.beta = nn.Parameter(torch.empty(1, dim))
        nn.init.normal_(self.alpha, std=INITIAL_STD)
        nn.init.normal_(self.beta, std=INITIAL_STD)

    def forward(self, length: int) -> Tensor:
        """`(length, length)`."""
        dim, device = self.alpha.shape[1], self.alpha.device
        # Angles of late positions have no digits left in half precision.
        dtype = torch.promote_types(self.alpha.dtype, torch.float32)
        frequency = 10000.0 ** (-torch.arange(0, dim, 2, device=device, dtype=dtype) / dim)
        angle = torch.outer(torch.arange(length, device=device, dtype=dtype), frequency)
        return _rotate(self.alpha, angle) @ _rotate(self.beta, angle).T


def _rotate(x: Tensor, angle: Tensor) -> Tensor:
    sin, cos = angle.sin().to(x.dtype), angle.cos().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def relative_bias(config: MegaConfig, length: int) -> nn.Module:
    """The config's bias, for attention over at most `length` steps."""
    if config.relative_bias == "rotary":
        return RotaryRelativeBias(config.attention_dim)
    return SimpleRelativeBias(length)


class MovingAverageGatedAttention(nn.Module):
    """One MEGA layer without its feed-forward network, `(batch, length, dim)` (section 3.2, equations 7–15).

    move: the EMA, `forward(x, padding_mask)`; attention: `forward(q, k, v, padding_mask)`, see
    ChunkedAttention. A faster form of either takes its place without a change of parameters.
    """

    def __init__(self, config: MegaConfig, move: nn.Module, attention: nn.Module) -> None:
        super().__init__()
        dim, hidden, z = config.dim, config.hidden, config.attention_dim
        self.widths = (dim, z, hidden, dim)
        self.prenorm = config.prenorm
        self.norm = SequenceNorm(config.norm, dim)
        self.move = move
        self.attention = attention
        self.v_proj = _linear(dim, hidden)
        self.mx_proj = _linear(dim, sum(self.widths))
        self.h_proj = _linear(hidden, dim)
        self.gamma = nn.Parameter(torch.empty(2, z))
        self.beta = nn.Parameter(torch.zeros(2, z))
        nn.init.normal_(self.gamma, std=INITIAL_STD)
        self.dropout = nn.Dropout(config.dropout)
        self.hidden_dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        u = self.norm(x) if self.prenorm else x
        v = self.hidden_dropout(F.silu(self.v_proj(u)))
        average = self.dropout(F.silu(self.move(u, padding_mask)))
        update, z, reset, candidate = self.mx_proj(average).split(self.widths, dim=-1)
        z = F.silu(z)
        q, k = (z * gamma + beta for gamma, beta in zip(self.gamma, self.beta, strict=True))
        attended = self.attention(q, k, v, padding_mask) * F.silu(reset)
        h = self.dropout(F.silu(candidate + self.h_proj(attended)))
        y: Tensor = x + update.sigmoid() * (h - x)
        return y if self.prenorm else self.norm(y)


class FeedForward(nn.Module):
    """`x + fc2(silu(fc1(norm(x))))`, or with the norm after the sum: `(batch, length, dim)`."""

    def __init__(self, config: MegaConfig) -> None:
        super().__init__()
        self.prenorm = config.prenorm
        self.norm = SequenceNorm(config.norm, config.dim)
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

    def __init__(self, mega_layer: nn.Module, nffn: nn.Module) -> None:
        super().__init__()
        self.mega_layer = mega_layer
        self.nffn = nffn

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        y: Tensor = self.nffn(self.mega_layer(x, padding_mask))
        return y


def build(
    task: Task,
    hyperparameters: Mapping[str, Any],
    ema: Callable[..., nn.Module] = DampedEMA,
    attention: Callable[..., nn.Module] = ChunkedAttention,
) -> nn.Module:
    """MEGA for a task; see MegaConfig. Raises TypeError on unknown hyper-parameters.

    ema, attention: classes called like DampedEMA and ChunkedAttention, that compute the same.
    """
    config = MegaConfig(**hyperparameters)
    reach = config.chunk or task.length
    encoder = Encoder(
        embed(task, config.dim),
        [layer(config, task.causal, reach, ema, attention) for _ in range(config.layers)],
        final_norm=SequenceNorm(config.norm, config.dim, config.final_norm_affine)
        if config.prenorm
        else None,
        dropout=config.dropout,
        pad_to=config.chunk or 1,
    )
    # MEGA's two-tower classifier reads the two representations alone, without their product and difference.
    return with_head(task, encoder, config.dim, config.hidden, interactions=False)


def layer(
    config: MegaConfig,
    causal: bool,
    reach: int,
    ema: Callable[..., nn.Module] = DampedEMA,
    attention: Callable[..., nn.Module] = ChunkedAttention,
) -> MegaLayer:
    """One layer; reach: the most time steps that attend to one another."""
    move = ema(config.dim, config.states, bidirectional=not causal, truncation=config.truncation)
    bias = relative_bias(config, reach)
    core = attention(
        config.attention, bias, chunk=config.chunk, causal=causal, dropout=config.attention_dropout
    )
    return MegaLayer(MovingAverageGatedAttention(config, move, core), FeedForward(config))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.trunc_normal_(linear.weight, std=INITIAL_STD, a=-2 * INITIAL_STD, b=2 * INITIAL_STD)
    nn.init.zeros_(linear.bias)
    return linear
