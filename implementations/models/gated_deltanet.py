"""Gated DeltaNet: a memory that forgets by a gate and overwrites by the delta rule.

Yang, Kautz and Hatamizadeh, ICLR 2025, arXiv 2412.06464. The recurrence is computed in the paper's chunked
form (section 3.3): a triangular system within chunks, which are independent, and one product of matrices
per chunk from state to state; on CUDA devices by the Triton kernels of fla if it is installed. It is causal
under every head; layers are pre-norm, the recurrence and a gated feed-forward network in turn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import State
from implementations.embeddings import embed
from implementations.encoder import Encoder
from implementations.fields import Config
from implementations.heads import Pooling, with_head
from implementations.kernels import libraries
from implementations.kernels.backend import Backend, choose
from implementations.ops.attention import merge_heads, split_heads
from implementations.ops.decay import between, initial_decay
from implementations.ops.norms import RMSNorm
from implementations.ops.short_conv import ShortConv
from implementations.task import Task

EPSILON = 1e-6
"""Added to the squared lengths of queries and keys."""


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNetConfig(Config):
    """Hyper-parameters of Gated DeltaNet."""

    layers: int
    dim: int
    heads: int
    head_dim: int
    """Width of a head's queries and keys."""
    ffn: int
    value_expand: int = 2
    """Width of a head's values over that of its keys."""
    conv: int = 4
    """Time steps of the convolution before the recurrence."""
    chunk: int = 64
    """Time steps that are computed by one triangular system."""
    pooling: Pooling = "mean"


def gated_delta_rule(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, chunk: int) -> Tensor:
    """`S_t = exp(log_decay_t)·S_{t−1}(I − β_t k_t k_tᵀ) + β_t v_t k_tᵀ`, `o_t = S_t q_t` (equation 10).

    q, k `(batch, heads, length, d)`, keys of norm at most 1; v `(batch, heads, length, d_v)`; log_decay
    and beta `(batch, heads, length)`, at most 0 and from 0 to 1. Returns o in the shape of v.
    Linear in the length; states of single time steps are never held.
    """
    return _chunked(q, k, v, log_decay, beta, chunk)[0]


def _chunked(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """o of gated_delta_rule, and the state `(batch, heads, d, d_v)` after the last step, which is Sᵀ."""
    length = q.shape[2]
    q, k, v, log_decay, beta = (_in_chunks(x, min(chunk, length)) for x in (q, k, v, log_decay, beta))
    total = log_decay.cumsum(dim=-1)
    since_start, until_end = total.exp().unsqueeze(-1), (total[..., -1:] - total).exp().unsqueeze(-1)
    decays, beta = between(log_decay), beta.unsqueeze(-1)

    # What each step would write if the state before the chunk were zero, and its share of that state.
    overlap = ((k * beta) @ k.mT * decays).tril(-1)
    sides = torch.cat([v * beta, k * beta * since_start], dim=-1)
    solved = torch.linalg.solve_triangular(overlap, sides, upper=False, unitriangular=True)
    written, erased = torch.split(solved, [v.shape[-1], k.shape[-1]], dim=-1)

    kept = (k * until_end).mT
    identity = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
    factors, updates = since_start[..., -1:, :] * identity - kept @ erased, kept @ written
    states = _states_before(factors, updates)
    # Zeros that fill the last chunk leave the state as it is.
    last = factors[:, :, -1] @ states[:, :, -1] + updates[:, :, -1]
    written = written - erased @ states
    y = (q * since_start) @ states + (q @ k.mT * decays) @ written
    return y.flatten(2, 3)[:, :, :length], last


def _in_chunks(x: Tensor, chunk: int) -> Tensor:
    """`(batch, heads, length, …)` to `(batch, heads, chunks, chunk, …)`, the last filled with zeros."""
    padding = (0, 0) * (x.dim() - 3) + (0, -x.shape[2] % chunk)
    return F.pad(x, padding).view(*x.shape[:2], -1, chunk, *x.shape[3:])


def _states_before(factors: Tensor, updates: Tensor) -> Tensor:
    """`S_{c+1} = factors_c S_c + updates_c` from zero: S of every chunk, `(batch, heads, chunks, d, d_v)`."""
    states = [torch.zeros_like(updates[:, :, 0])]
    for factor, update in zip(factors[:, :, :-1].unbind(2), updates[:, :, :-1].unbind(2), strict=True):
        states.append(factor @ states[-1] + update)
    return torch.stack(states, dim=2)


class GatedDeltaMixer(nn.Module):
    """Projection, convolution, delta rule, gated norm and projection: states `(batch, length, dim)`.

    backend: kernels that compute the delta rule; see `implementations.kernels.backend.choose`.
    """

    backend: Backend = "auto"
    library = staticmethod(libraries.delta_rule_unavailable)

    def __init__(self, config: GatedDeltaNetConfig) -> None:
        super().__init__()
        self.config = config
        keys, heads = config.heads * config.head_dim, config.heads
        values = config.value_expand * keys
        self.qkv_widths = [keys, keys, values]
        self.widths = [sum(self.qkv_widths), values, heads, heads]
        self.in_proj = nn.Linear(config.dim, sum(self.widths), bias=False)
        self.conv1d = ShortConv(sum(self.qkv_widths), config.conv, bias=False)
        dt_bias, a_log = initial_decay(heads)
        self.dt_bias = nn.Parameter(dt_bias)
        self.A_log = nn.Parameter(a_log)
        self.norm = RMSNorm(config.value_expand * config.head_dim)
        self.out_proj = nn.Linear(values, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv, gate, decay, beta = torch.split(self.in_proj(x), self.widths, dim=-1)
        return self._out(self._recurrence(*self._operands(self.conv1d(qkv), decay, beta)), gate)

    def state_after(self, x: Tensor, room: int) -> State:
        """State of the convolution, and the memory `(batch, heads, d, d_v)`, in at least float32."""
        qkv, _, decay, beta = torch.split(self.in_proj(x), self.widths, dim=-1)
        operands = self._operands(self.conv1d(qkv), decay, beta)
        _, k, v, _, _ = operands
        if x.shape[1]:
            _, memory = self._memory(*operands)
        else:
            dtype = torch.promote_types(x.dtype, torch.float32)
            memory = x.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1], dtype=dtype)
        return State(parts=(self.conv1d.state_after(qkv, room), State((memory,))))

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        convolution, (memory,) = state.parts[0], state.parts[1].memory
        qkv, gate, decay, beta = (
            part.unsqueeze(1) for part in torch.split(self.in_proj(x), self.widths, dim=-1)
        )
        convolved = self.conv1d.step(qkv.squeeze(1), convolution, time).unsqueeze(1)
        with torch.autocast(x.device.type, enabled=False):
            q, k, v, log_decay, strength = (
                part.to(memory.dtype) for part in self._operands(convolved, decay, beta)
            )
            memory.mul_(log_decay.exp().unsqueeze(-1))
            memory.add_(k.mT @ ((v - k @ memory) * strength.unsqueeze(-1)))
            y = q @ memory
        return self._out(y, gate).squeeze(1)

    def _operands(self, convolved: Tensor, decay: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        """q, k, v, log_decay and beta of the delta rule."""
        parts = torch.split(F.silu(convolved), self.qkv_widths, dim=-1)
        q, k, v = (split_heads(part, self.config.heads) for part in parts)
        log_decay = -self.A_log.exp() * F.softplus(decay + self.dt_bias)
        return _unit(q) * float(q.shape[-1] ** -0.5), _unit(k), v, log_decay.mT, beta.sigmoid().mT

    def _out(self, y: Tensor, gate: Tensor) -> Tensor:
        gated = self.norm(y) * F.silu(split_heads(gate, self.config.heads))
        # The memory is read in float32 at least; weights may be narrower.
        mixed: Tensor = self.out_proj(merge_heads(gated).to(self.out_proj.weight.dtype))
        return mixed

    def _recurrence(self, *operands: Tensor) -> Tensor:
        if choose(self.backend, operands[0].device, self.library) == "triton":
            return libraries.gated_delta_rule(*operands)
        return self._memory(*operands)[0]

    def _memory(self, *operands: Tensor) -> tuple[Tensor, Tensor]:
        """The delta rule in at least float32: with less, the state of many chunks has no digits left."""
        dtype = torch.promote_types(operands[0].dtype, torch.float32)
        with torch.autocast(operands[0].device.type, enabled=False):
            q, k, v, log_decay, beta = (x.to(dtype) for x in operands)
            return _chunked(q, k, v, log_decay, beta, self.config.chunk)


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(dim=-1, keepdim=True) + EPSILON)


class GatedFeedForward(nn.Module):
    """`down(silu(gate(x))·up(x))` (SwiGLU): `(batch, length, dim)`."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(dim, 2 * hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        y: Tensor = self.down_proj(F.silu(gate) * up)
        return y


class GatedDeltaNetLayer(nn.Module):
    """Mixer and feed-forward network, each with a residual. Padding is right, where nothing sees it."""

    def __init__(self, config: GatedDeltaNetConfig) -> None:
        super().__init__()
        self.mixer_norm = RMSNorm(config.dim)
        self.mixer = GatedDeltaMixer(config)
        self.ffn_norm = RMSNorm(config.dim)
        self.ffn = GatedFeedForward(config.dim, config.ffn)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        return self._feed_forward(x + self.mixer(self.mixer_norm(x)))

    def state_after(self, x: Tensor, room: int) -> State:
        """State of the mixer."""
        return self.mixer.state_after(self.mixer_norm(x), room)

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        return self._feed_forward(x + self.mixer.step(self.mixer_norm(x), state, time))

    def _feed_forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.ffn(self.ffn_norm(x))
        return y


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """Gated DeltaNet for a task; see GatedDeltaNetConfig. Raises TypeError on unknown hyper-parameters."""
    config = GatedDeltaNetConfig(**hyperparameters)
    encoder = Encoder(
        embed(task, config.dim),
        [GatedDeltaNetLayer(config) for _ in range(config.layers)],
        final_norm=RMSNorm(config.dim),
    )
    return with_head(task, encoder, config.dim, config.ffn, config.pooling)
