"""SeqBoat and SeqBoat-full (Ren et al., Sparse Modular Activation, NeurIPS 2023, arXiv 2306.11197).

A layer is a damped EMA at every step, and gated attention at the steps that a latent configurator
activates. This is the plain form: each primitive is the one of `implementations/ops`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import State
from implementations.embeddings import Sinusoids, embed
from implementations.encoder import Encoder
from implementations.fields import Config
from implementations.heads import with_head
from implementations.ops.attention_functions import AttentionKind, attend
from implementations.ops.configurator import LatentConfigurator
from implementations.ops.cut_normal import cut_normal_
from implementations.ops.ema import DampedEMA
from implementations.ops.local_attention import full_attention, local_attention
from implementations.ops.norms import NormKind, SequenceNorm
from implementations.ops.relative_bias import RelativeBias
from implementations.ops.rotary import rotate
from implementations.ops.sma import (
    ActiveSteps,
    choose_steps,
    latest,
    sparse_modular_activation,
    steps_in_place,
)
from implementations.task import Task

INITIAL_DEVIATION = 0.02
"""Standard deviation of linear weights and of the query and key scales, cut at two deviations."""


@dataclass(frozen=True)
class SeqBoatConfig(Config):
    """Hyper-parameters. Raises ValueError for one out of its range, or if two exclude each other."""

    layers: int
    dim: int
    hidden: int
    """Width of values and gates, and of the classifier's hidden layer."""
    attention_dim: int
    """Width of queries and keys."""
    states: int = 16
    """Damped averages per channel of the EMA."""
    window: int | None = 128
    """Reach of attention in the working memory, in steps; None for all of it (SeqBoat-full)."""
    truncation: int | None = None
    """Longest kernel of the EMA, in time steps."""
    attention: AttentionKind = "softmax"
    norm: NormKind = "layernorm"
    prenorm: bool = True
    final_norm_affine: bool = True
    """Whether the norm after the last layer, of a pre-norm model, scales and shifts."""
    relative_bias: Literal["simple", "local", "rotary"] = "simple"
    """Bias by original positions, by offsets in the working memory, or rotary queries and keys."""
    absolute_positions: bool = False
    temperature_scale: float = 1.0
    """Initial temperature of the configurator over √dim."""
    dropout: float = 0.0
    hidden_dropout: float = 0.0
    """Dropout of the values."""
    always_active: bool = False
    """Attention at every step, without a configurator."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window is None and self.relative_bias == "local":
            raise ValueError("relative_bias 'local' needs a window: its table is as long as six of them")
        if self.relative_bias == "rotary" and self.attention_dim % 2:
            raise ValueError(f"relative_bias 'rotary' needs an even attention_dim, not {self.attention_dim}")


class SeqBoatLayer(nn.Module):
    """One layer: states `(batch, length, dim)` to states of the same shape.

    max_positions: length of the table of `relative_bias="simple"`, beyond which its ends repeat.
    """

    def __init__(self, config: SeqBoatConfig, *, causal: bool = False, max_positions: int = 1024) -> None:
        super().__init__()
        self.config = config
        self.causal = causal
        # From this share of active steps in its densest row on, a batch is not compressed.
        self.dense = 0.9 if config.window is None else 1.0
        dim, hidden, z = config.dim, config.hidden, config.attention_dim
        self.norm = SequenceNorm(config.norm, dim)
        self.ema = DampedEMA(dim, config.states, not causal, config.truncation, cut=True)
        self.configurator = (
            None if config.always_active else LatentConfigurator(dim, config.temperature_scale)
        )
        router = 0 if config.always_active else 2
        self.hx_proj = nn.Linear(dim, router + dim)
        self.mx_proj = nn.Linear(dim, z + hidden + hidden)
        self.h_proj = nn.Linear(hidden, dim)
        self.gamma = nn.Parameter(torch.empty(2, z))
        self.beta = nn.Parameter(torch.zeros(2, z))
        self.rel_pos_bias = _relative_bias(config, max_positions)
        self.dropout = nn.Dropout(config.dropout)
        self.hidden_dropout = nn.Dropout(config.hidden_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Linear weights and gamma `N(0, 0.02)` cut at two deviations; biases and beta 0."""
        for linear in (self.hx_proj, self.mx_proj, self.h_proj):
            cut_normal_(linear.weight, INITIAL_DEVIATION)
            nn.init.zeros_(linear.bias)
        cut_normal_(self.gamma, INITIAL_DEVIATION)
        nn.init.zeros_(self.beta)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """x `(batch, length, dim)`; padding_mask `(batch, length)`, True at padding, or None."""
        u = self.norm(x) if self.config.prenorm else x
        m = self.dropout(F.silu(self.ema(u, padding_mask)))
        hx = self.hx_proj(m)
        if self.configurator is None:
            linear, h = hx, self.gated_attention(m, steps_in_place(_real_steps(m, padding_mask)))
        else:
            logits, linear = torch.split(hx, [2, self.config.dim], dim=-1)
            active, confidence = self.configurator(logits, padding_mask)
            steps = choose_steps(active, self.dense)
            h = sparse_modular_activation(m, steps, confidence, self.gated_attention)
        branches = self.dropout(linear + h) if self.causal else linear + h
        return self._end(branches + x)

    def _end(self, branches: Tensor) -> Tensor:
        y = F.silu(branches)
        return y if self.config.prenorm else self.norm(y)

    def state_after(self, x: Tensor, room: int) -> State:
        """State of the EMA, and the working memory: caches of keys `(batch, reach, attention_dim)`, values
        `(batch, reach, hidden)` and positions `(batch, reach)` of the latest active steps, step i of the
        memory at i modulo the reach, and the number of active steps so far `(batch,)`.

        Steps are compressed whatever their density (see `choose_steps` for what the parallel form does).
        """
        u = self.norm(x) if self.config.prenorm else x
        m = F.silu(self.ema(u))
        active = _real_steps(m, None)
        if self.configurator is not None:
            active = self.configurator.decide(self.hx_proj(m)[..., :2])
        positions = torch.arange(x.shape[1], device=x.device).expand(active.shape)
        _, k, v, _ = self._project(m, positions)
        reach = room if self.config.window is None else min(room, self.config.window + 1)
        count = active.sum(dim=1)
        memory = (*(latest(part, active, reach) for part in (k, v, positions)), count)
        return State(parts=(self.ema.state_after(u, room), State(memory)))

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape; attention in the active rows only."""
        averages, memory = state.parts
        u = self.norm(x) if self.config.prenorm else x
        m = F.silu(self.ema.step(u, averages, time))
        hx = self.hx_proj(m)
        if self.configurator is None:
            rows = torch.arange(x.shape[0], device=x.device)
            return self._end(hx + self._recall(m, memory, rows, time) + x)
        logits, linear = torch.split(hx, [2, self.config.dim], dim=-1)
        active, confidence = self.configurator(logits.unsqueeze(1))
        rows = active.squeeze(1).nonzero().squeeze(1)
        if rows.numel():
            linear[rows] += self._recall(m[rows], memory, rows, time) * confidence[rows]
        return self._end(linear + x)

    def _recall(self, m: Tensor, state: State, rows: Tensor, time: int) -> Tensor:
        """The gated attention unit at one time step of some rows, all active: `(rows, dim)` to the same."""
        config = self.config
        keys, values, positions, count = state.memory
        reach, index = keys.shape[1], count[rows].unsqueeze(1)
        place = index.squeeze(1) % reach
        q, k, v, r = (part.squeeze(1) for part in self._project(m.unsqueeze(1), torch.full_like(index, time)))
        keys[rows, place], values[rows, place], positions[rows, place] = k, v, time
        count[rows] += 1
        filled = min(reach, int(index.max()) + 1)
        back = (index - torch.arange(filled, device=m.device)) % reach
        if rows.numel() < keys.shape[0]:
            keys, values, positions = keys[rows], values[rows], positions[rows]
        scale: float | Tensor = q.shape[-1] ** -0.5
        if config.attention != "softmax":
            scale = 1.0 / (index + 1) if config.window is None else 1.0 / config.window
        scores = (q * scale).unsqueeze(1) @ keys[:, :filled].mT
        if self.rel_pos_bias is not None:
            if config.relative_bias == "simple":
                bias = self.rel_pos_bias(torch.full_like(index, time), positions[:, :filled])
            else:
                bias = self.rel_pos_bias(index, index - back)
            scores = scores + bias
        seen = (back <= index).unsqueeze(1)
        h: Tensor = self.h_proj(attend(scores, values[:, :filled], seen, config.attention).squeeze(1) * r)
        return h

    def _project(self, m: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys, values and gates of steps `(batch, steps, dim)` at positions `(batch, steps)`."""
        config = self.config
        widths = [config.attention_dim, config.hidden, config.hidden]
        z, r, v = torch.split(F.silu(self.mx_proj(m)), widths, dim=-1)
        q, k = (z.unsqueeze(-2) * self.gamma + self.beta).unbind(dim=-2)
        if config.relative_bias == "rotary":
            q, k = rotate(q, positions), rotate(k, positions)
        return q, k, v, r

    def gated_attention(self, m: Tensor, steps: ActiveSteps) -> Tensor:
        """The gated attention unit over the working memory: `(batch, memory, dim)` to the same shape."""
        q, k, v, r = self._project(m, steps.positions)
        h: Tensor = self.h_proj(self.attention(q, k, self.hidden_dropout(v), steps) * r)
        return h if self.causal else self.dropout(h)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, steps: ActiveSteps) -> Tensor:
        """Attention within the window: q, k `(batch, memory, attention_dim)`, v `(batch, memory, hidden)`."""
        options: dict[str, Any] = {
            "kind": self.config.attention,
            "causal": self.causal,
            "valid": steps.valid,
            "bias": self.rel_pos_bias,
            "positions": steps.positions if self.config.relative_bias == "simple" else None,
        }
        if self.config.window is None:
            return full_attention(q, k, v, **options)
        return local_attention(q, k, v, self.config.window, **options)


def _real_steps(x: Tensor, padding_mask: Tensor | None) -> Tensor:
    return x.new_ones(x.shape[:2], dtype=torch.bool) if padding_mask is None else ~padding_mask


def _relative_bias(config: SeqBoatConfig, max_positions: int) -> RelativeBias | None:
    if config.relative_bias == "simple":
        return RelativeBias.simple(max_positions)
    if config.relative_bias == "local":
        assert config.window is not None
        return RelativeBias.local(config.window)
    return None


def build(
    task: Task, hyperparameters: Mapping[str, Any], layer: type[SeqBoatLayer] = SeqBoatLayer
) -> nn.Module:
    """The model of a task; a language model's output projection is its embedding, without a bias.

    layer: the class of its layers, for forms of them that compute the same function.
    Raises TypeError on an unknown hyper-parameter, ValueError on an impossible one.
    """
    config = SeqBoatConfig(**hyperparameters)
    encoder = build_encoder(task, config, layer)
    return with_head(task, encoder, config.dim, config.hidden, dropout=config.dropout, output="tied")


def build_encoder(task: Task, config: SeqBoatConfig, layer: type[SeqBoatLayer] = SeqBoatLayer) -> Encoder:
    """Everything below the task's head; a language model's embeddings are times √dim."""
    final_norm = SequenceNorm(config.norm, config.dim, config.final_norm_affine)
    return Encoder(
        embed(task, config.dim),
        [layer(config, causal=task.causal, max_positions=task.length) for _ in range(config.layers)],
        positions=Sinusoids(config.dim, scale=config.dim**-0.5) if config.absolute_positions else None,
        final_norm=final_norm if config.prenorm else None,
        embedding_scale=math.sqrt(config.dim) if task.head == "language-model" else 1.0,
        dropout=config.dropout,
    )
