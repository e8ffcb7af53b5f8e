"""Mamba-2: a selective state-space model whose decay is one number per head and step.

Dao and Gu, Transformers are SSMs, ICML 2024, arXiv 2405.21060. The recurrence is computed in the chunked
form of its state-space duality: a masked product of matrices within chunks, and states from chunk to
chunk; on CUDA devices by the Triton kernels of mamba-ssm or fla, if one of them is installed. It is
causal under every head; B and C are shared by the heads, and layers are pre-norm.
"""

import math
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
from implementations.ops.decay import between, decayed_sums, delayed, initial_decay
from implementations.ops.norms import RMSNorm
from implementations.ops.short_conv import ShortConv
from implementations.task import Task


@dataclass(frozen=True, kw_only=True)
class Mamba2Config(Config):
    """Hyper-parameters of Mamba-2."""

    layers: int
    dim: int
    expand: int = 2
    """Width of all heads together over the model's."""
    head_dim: int = 64
    """Width of a head (P)."""
    state_dim: int = 128
    """States per channel (N)."""
    conv: int = 4
    """Time steps of the convolution before the recurrence."""
    chunk: int = 64
    """Time steps that are computed by one masked product."""
    pooling: Pooling = "mean"

    @property
    def heads(self) -> int:
        """Number of heads. Raises ValueError if they do not divide the inner width."""
        inner = self.expand * self.dim
        if inner % self.head_dim:
            raise ValueError(f"heads of width {self.head_dim} do not divide the inner width {inner}")
        return inner // self.head_dim


def ssd(x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, chunk: int) -> Tensor:
    """`S_t = exp(log_decay_t)·S_{t−1} + x_t b_tᵀ`, `y_t = S_t c_t` from zero (paper, section 6).

    x `(batch, length, heads, P)`; log_decay `(batch, length, heads)`, at most 0; b, c `(batch, length, N)`.
    Returns y in the shape of x. Linear in the length; states of single time steps are never held.
    """
    length = x.shape[1]
    x, log_decay, b, c = (in_chunks(t, min(chunk, length)) for t in (x, log_decay, b, c))
    log_decay = log_decay.mT
    decay = log_decay.cumsum(dim=-1)
    weights = (c @ b.mT).unsqueeze(2) * between(log_decay)
    within = (weights @ x.transpose(2, 3)).transpose(2, 3)

    left = (decay[..., -1:] - decay).exp()
    updates = (x * left.mT.unsqueeze(-1)).flatten(3).mT @ b
    by_head = updates.view(*updates.shape[:2], x.shape[3], -1).transpose(1, 2)
    states = delayed(decayed_sums(decay[..., -1].mT, by_head)).transpose(1, 2).reshape(updates.shape)
    carried = (c @ states.mT).view_as(x) * decay.exp().mT.unsqueeze(-1)
    return (within + carried).flatten(1, 2)[:, :length]


def in_chunks(x: Tensor, chunk: int) -> Tensor:
    """`(batch, length, …)` to `(batch, chunks, chunk, …)`, the last chunk filled with zeros."""
    padding = (0, 0) * (x.dim() - 2) + (0, -x.shape[1] % chunk)
    return F.pad(x, padding).view(x.shape[0], -1, chunk, *x.shape[2:])


class Mamba2Mixer(nn.Module):
    """Projection, convolution, recurrence, gated norm and projection: states `(batch, length, dim)`.

    backend: kernels that compute the recurrence; see `implementations.kernels.backend.choose`.
    """

    backend: Backend = "auto"
    library = staticmethod(libraries.ssd_unavailable)

    def __init__(self, config: Mamba2Config) -> None:
        super().__init__()
        self.config = config
        inner, state, heads = config.heads * config.head_dim, config.state_dim, config.heads
        self.widths = [inner, inner + 2 * state, heads]
        self.in_proj = nn.Linear(config.dim, sum(self.widths), bias=False)
        self.conv1d = ShortConv(inner + 2 * state, config.conv)
        dt_bias, a_log = initial_decay(heads)
        self.dt_bias = nn.Parameter(dt_bias)
        self.A_log = nn.Parameter(a_log)
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = RMSNorm(inner)
        self.out_proj = nn.Linear(inner, config.dim, bias=False)
        with torch.no_grad():  # the sum over the layers' residuals keeps its scale
            self.out_proj.weight /= math.sqrt(config.layers)

    def forward(self, x: Tensor) -> Tensor:
        z, xbc, dt = self.in_proj(x).split(self.widths, dim=-1)
        v, b, c = self._operands(self.conv1d(xbc))
        return self._out(self._recurrence(v, self._time_steps(dt), b, c), v, z)

    def state_after(self, x: Tensor, room: int) -> State:
        """State of the convolution, and S `(batch, heads, P, N)`, in at least float32."""
        _, xbc, dt = self.in_proj(x).split(self.widths, dim=-1)
        v, b, _ = self._operands(self.conv1d(xbc))
        dt = self._time_steps(dt)
        log_decay = dt * self._rate()
        left = (log_decay.sum(dim=1, keepdim=True) - log_decay.cumsum(dim=1)).exp() * dt
        state = torch.einsum("blhp,blh,bln->bhpn", v.to(left.dtype), left, b.to(left.dtype))
        return State(parts=(self.conv1d.state_after(xbc, room), State((_wide(state),))))

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        convolution, (memory,) = state.parts[0], state.parts[1].memory
        z, xbc, dt = self.in_proj(x).split(self.widths, dim=-1)
        v, b, c = self._operands(self.conv1d.step(xbc, convolution, time))
        dt = self._time_steps(dt)
        decay = torch.exp(dt * self._rate())
        memory.mul_(decay[..., None, None]).add_((v * dt.unsqueeze(-1)).unsqueeze(-1) * b[:, None, None])
        y = (memory @ c.to(memory.dtype)[:, None, :, None]).squeeze(-1).to(x.dtype)
        return self._out(y, v, z)

    def _operands(self, convolved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """v `(…, heads, P)`, b and c `(…, N)` of the convolution's output `(…, channels)`."""
        config = self.config
        inner, state = config.heads * config.head_dim, config.state_dim
        v, b, c = torch.split(F.silu(convolved), [inner, state, state], dim=-1)
        return v.view(*v.shape[:-1], config.heads, config.head_dim), b, c

    def _out(self, y: Tensor, v: Tensor, z: Tensor) -> Tensor:
        y = (y + self.D.unsqueeze(-1) * v).flatten(-2)
        gated = self.norm(y * F.silu(z))
        mixed: Tensor = self.out_proj(gated.to(self.out_proj.weight.dtype))
        return mixed

    def _time_steps(self, dt: Tensor) -> Tensor:
        """Step sizes `(…, heads)` of projected ones, in float32 at least: sums have no digits in less."""
        return F.softplus(_wide(dt) + self.dt_bias)

    def _rate(self) -> Tensor:
        return -_wide(self.A_log).exp()

    def _recurrence(self, x: Tensor, dt: Tensor, b: Tensor, c: Tensor) -> Tensor:
        rate, chunk = self._rate(), self.config.chunk
        if choose(self.backend, x.device, self.library) == "triton":
            return libraries.ssd(x, dt, rate, b, c, chunk)
        return ssd(x * dt.unsqueeze(-1), dt * rate, b.to(dt.dtype), c.to(dt.dtype), chunk)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Mamba2Layer(nn.Module):
    """`x + mixer(norm(x))`. Padding is at the right, where nothing real sees it."""

    def __init__(self, config: Mamba2Config) -> None:
        super().__init__()
        self.norm = RMSNorm(config.dim)
        self.mixer = Mamba2Mixer(config)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        y: Tensor = x + self.mixer(self.norm(x))
        return y

    def state_after(self, x: Tensor, room: int) -> State:
        """State of the mixer."""
        return self.mixer.state_after(self.norm(x), room)

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        return x + self.mixer.step(self.norm(x), state, time)


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """Mamba-2 for a task; see Mamba2Config. Raises TypeError on unknown hyper-parameters."""
    config = Mamba2Config(**hyperparameters)
    encoder = Encoder(
        embed(task, config.dim),
        [Mamba2Layer(config) for _ in range(config.layers)],
        final_norm=RMSNorm(config.dim),
    )
    return with_head(task, encoder, config.dim, config.dim, config.pooling)
