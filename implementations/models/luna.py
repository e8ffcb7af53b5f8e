"""Luna: attention nested in two linear halves through a short state p (pack, then unpack).

Ma et al., NeurIPS 2021, arXiv 2106.01540; Luna-256 has 256 rows of p, learned and carried from layer to
layer. A sequence shorter than p sees only as many rows of p as it has positions, so that logits do not
depend on the padding. The causal form packs by running means of positive weights, without a softmax over
time; every layer starts from the learned p there, as a packed p would carry the future.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import State
from implementations.embeddings import FairseqSinusoids
from implementations.models.transformer import (
    FrameConfig,
    Sublayers,
    build_around,
    frame,
    layer_of,
    stack,
)
from implementations.ops.attention import merge_heads, split_heads
from implementations.ops.causal_products import causal_products
from implementations.task import Task


@dataclass(frozen=True, kw_only=True)
class LunaConfig(FrameConfig):
    """Hyper-parameters of Luna."""

    projection: int = 256
    """Rows of the state p."""
    tie_kv: bool = False
    attention_dropout: float = 0.1


class LunaAttention(nn.Module):
    """Pack: p attends to x; unpack: x attends to the packed p (paper, equations 5 and 6).

    pack_heads: heads of the pack, `heads` by default; tie_kv: one projection gives a half's keys and values.
    """

    def __init__(
        self, dim: int, heads: int, pack_heads: int | None = None, tie_kv: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads = _dividing(dim, heads)
        self.pack_heads = _dividing(dim, pack_heads or heads)
        self.tie_kv = tie_kv
        self.pq_proj = linear(dim)
        self.q_proj = linear(dim)
        if tie_kv:
            self.pc_proj = linear(dim)
            self.c_proj = linear(dim)
        else:
            self.pk_proj = linear(dim)
            self.pv_proj = linear(dim)
            self.k_proj = linear(dim)
            self.v_proj = linear(dim)
        self.out_proj = linear(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, p: Tensor, padding_mask: Tensor | None = None, p_padding_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """States x `(batch, length, dim)` and p `(batch, rows, dim)`, each with its padding mask or None.

        Returns the attended states, and the packed p, which has no output projection.
        """
        pack_k, pack_v = self._tied(self.pc_proj, x) if self.tie_kv else (self.pk_proj(x), self.pv_proj(x))
        packed = self._attend(self.pq_proj(p), pack_k, pack_v, self.pack_heads, padding_mask)
        k, v = self._tied(self.c_proj, packed) if self.tie_kv else (self.k_proj(packed), self.v_proj(packed))
        y: Tensor = self.out_proj(self._attend(self.q_proj(x), k, v, self.heads, p_padding_mask))
        return y, packed

    @staticmethod
    def _tied(projection: nn.Module, states: Tensor) -> tuple[Tensor, Tensor]:
        projected = projection(states)
        return projected, projected

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, heads: int, padding_mask: Tensor | None) -> Tensor:
        q, k, v = (split_heads(states, heads) for states in (q, k, v))
        scores = scaled(q) @ k.mT
        if padding_mask is not None:
            scores = scores.masked_fill(padding_mask[:, None, None, :], float("-inf"))
        return merge_heads(self.dropout(scores.softmax(dim=-1)) @ v)


class CausalLunaAttention(nn.Module):
    """The causal form (paper, section 3.4): running means in place of the pack's softmax.

    Pack weights `ω_s = softplus(pq · pc_s)` with β = ln 2; scores of x_t against the mean of `ω_s k_s` over
    s ≤ t, and their softmax against the mean of `ω_s v_s`.
    """

    def __init__(self, dim: int, heads: int, tie_kv: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = _dividing(dim, heads)
        self.tie_kv = tie_kv
        self.pq_proj = linear(dim)
        self.pc_proj = linear(dim)
        self.q_proj = linear(dim)
        if tie_kv:
            self.c_proj = linear(dim)
        else:
            self.k_proj = linear(dim)
            self.v_proj = linear(dim)
        self.out_proj = linear(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        """States x `(batch, length, dim)` and p `(batch, rows, dim)` to the attended states."""
        q, k, v, weights = self._operands(x, p)
        attention = _running_mean(scaled(q), k, weights).softmax(dim=-1)
        y: Tensor = self.out_proj(merge_heads(_running_mean(self.dropout(attention), weights, v)))
        return y

    def state_after(self, x: Tensor, p: Tensor) -> State:
        """The sums of `ω_s k_s` and `ω_s v_s`, each `(batch, heads, rows, d_head)`."""
        _, k, v, weights = self._operands(x, p)
        return State((weights.mT @ k, weights.mT @ v))

    def step(self, x: Tensor, p: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        keys, values = state.memory
        q, k, v, weights = self._operands(x.unsqueeze(1), p)
        keys.add_(weights.mT @ k)
        values.add_(weights.mT @ v)
        attention = (scaled(q) @ keys.mT / (time + 1)).softmax(dim=-1)
        y: Tensor = self.out_proj(merge_heads(attention @ values / (time + 1))).squeeze(1)
        return y

    def _operands(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and values by head, and the pack weights `(batch, heads, length, rows)`."""
        pq, pc, q = (
            split_heads(states, self.heads) for states in (self.pq_proj(p), self.pc_proj(x), self.q_proj(x))
        )
        k = split_heads((self.c_proj if self.tie_kv else self.k_proj)(x), self.heads)
        v = k if self.tie_kv else split_heads(self.v_proj(x), self.heads)
        return q, k, v, F.softplus(pc @ scaled(pq).mT, beta=math.log(2.0))


def _running_mean(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`1/t Σ_{s ≤ t} (q_t · k_s) v_s`, t from 1."""
    count = torch.arange(1, q.shape[-2] + 1, device=q.device, dtype=q.dtype)
    return causal_products(q, k, v) / count.unsqueeze(-1)


def scaled(q: Tensor) -> Tensor:
    """Queries of heads over √d_head."""
    return q * float(q.shape[-1] ** -0.5)


def linear(dim: int) -> nn.Linear:
    """A projection, Xavier uniform."""
    projection = nn.Linear(dim, dim)
    nn.init.xavier_uniform_(projection.weight)
    nn.init.zeros_(projection.bias)
    return projection


def _dividing(dim: int, heads: int) -> int:
    if dim % heads:
        raise ValueError(f"{heads} heads do not divide the width {dim}")
    return heads


class LunaLayer(Sublayers):
    """Sub-layers on x; p gets the packed context, a residual and a norm of its own."""

    def __init__(
        self, attention: LunaAttention, dim: int, ffn: int, *, norm_epsilon: float = 1e-5, **options: Any
    ) -> None:
        """options: as of Sublayers."""
        super().__init__(attention, dim, ffn, norm_epsilon=norm_epsilon, **options)
        self.self_atten_proj_layer_norm = nn.LayerNorm(dim, eps=norm_epsilon)

    def forward(
        self, x: Tensor, p: Tensor, padding_mask: Tensor | None = None, p_padding_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """States x `(batch, length, dim)` and p `(batch, rows, dim)` to the same."""
        y, packed = self.self_attn(
            self._before(self.self_attn_layer_norm, x),
            self._before(self.self_atten_proj_layer_norm, p),
            padding_mask,
            p_padding_mask,
        )
        x = self._after(self.self_attn_layer_norm, x + self.dropout(y))
        p = self._after(self.self_atten_proj_layer_norm, p + self.dropout(packed))
        return self._sublayer(x, self.final_layer_norm, self.feed_forward), p


class LearnedState(nn.Module):
    """The first p: `(1, rows, dim)`, learned, N(0, dim^-½), times √dim, with its own positions and norm.

    Both are like those of x's embedding.
    """

    def __init__(self, config: LunaConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(config.projection, config.dim) * config.dim**-0.5)
        self.positions = FairseqSinusoids(config.dim, first=0) if config.positions == "fairseq" else None
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_epsilon) if config.embedding_norm else None

    def forward(self) -> Tensor:
        rows, dim = self.weight.shape
        p = self.weight * math.sqrt(dim)
        if self.positions is not None:
            p = p + self.positions(rows).to(p.dtype)
        if self.norm is not None:
            p = self.norm(p)
        return p.unsqueeze(0)


class LunaStack(nn.Module):
    """All layers, and the p that they pass on: states `(batch, length, dim)` to the same."""

    def __init__(self, state: LearnedState, layers: list[LunaLayer], dropout: float) -> None:
        super().__init__()
        self.state = state
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        batch, length, _ = x.shape
        p = self.dropout(self.state()[:, :length].expand(batch, -1, -1))
        # A row of n real positions has n rows of p at most, whatever the length it is padded to.
        p_padding_mask = None if padding_mask is None else padding_mask[:, : p.shape[1]]
        for layer in self.layers:
            x, p = layer(x, p, padding_mask, p_padding_mask)
        return x


class FromLearnedState(nn.Module):
    """A causal attention on the learned p: `forward(x, padding_mask)`.

    Right padding needs no mask here: no real position sees it.
    """

    def __init__(self, attention: CausalLunaAttention, state: LearnedState) -> None:
        super().__init__()
        self.attention = attention
        self.state = state

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        y: Tensor = self.attention(x, self.state())
        return y

    def state_after(self, x: Tensor, room: int) -> State:
        """State of the attention."""
        return self.attention.state_after(x, self.state())

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        return self.attention.step(x, self.state(), state, time)


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """Luna for a task; see LunaConfig. Raises TypeError on unknown hyper-parameters."""
    config = LunaConfig(**hyperparameters)
    state = LearnedState(config)
    if task.causal:
        return build_around(task, config, lambda: FromLearnedState(_causal_attention(config), state))
    return frame(task, config, [LunaStack(state, stack(config, lambda: _layer(config)), config.dropout)])


def _causal_attention(config: LunaConfig) -> CausalLunaAttention:
    return CausalLunaAttention(config.dim, config.heads, config.tie_kv, config.attention_dropout)


def _layer(config: LunaConfig) -> LunaLayer:
    attention = LunaAttention(
        config.dim, config.heads, tie_kv=config.tie_kv, dropout=config.attention_dropout
    )
    return layer_of(LunaLayer, config, attention)
