"""S5 (Smith, Warrington and Linderman, Simplified State Space Layers for Sequence Modeling, ICLR 2023).

One state-space model of many inputs and outputs per layer, discretised and run by a parallel scan, then a
gated activation, in a residual block. Parameters have the official names and layouts: complex ones are real
pairs in a last dimension of 2, kernels of dense layers are `(in, out)`.

Oddities of the official code, kept: padded positions are neither zeroed nor masked between layers, so they
enter the batch statistics and, through the backward scan, the states of real positions (padding a sequence
changes its logits); the backward states include the current step; the running variance of the batch norm is
the biased one; LayerNorm's ε is 1e-6; there is no norm after the last block.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import NoRecurrentForm, State
from implementations.encoder import Encoder
from implementations.fields import Config
from implementations.heads import Classifier, LanguageModel, TwoTower
from implementations.ops.flax_layers import BatchNorm, Dense, InputDense, LayerNorm, lecun_normal
from implementations.ops.scan import final_state, linear_scan
from implementations.ops.ssm import (
    NormKind,
    TiedDropout,
    as_complex,
    as_pairs,
    at_least_float32,
    log_uniform,
    nplr_legs,
)
from implementations.task import Task

Activation = Literal["half_glu1", "half_glu2", "full_glu", "gelu"]
Discretization = Literal["zoh", "bilinear"]
OutputInit = Literal["lecun_normal", "trunc_standard_normal", "complex_normal"]

LARGEST_REAL_PART = -1e-4
"""Bound of the real part if eigenvalues are clipped, which keeps the model stable."""


@dataclass(frozen=True)
class S5Config(Config):
    """Hyper-parameters of the model."""

    layers: int
    dim: int
    state: int
    """Size of the real state P; half as many complex states are kept, one of every conjugate pair."""
    blocks: int = 1
    """Copies of the HiPPO matrix that the state starts as."""
    activation: Activation = "half_glu1"
    norm: NormKind = "batchnorm"
    momentum: float = 0.95
    """Share that the batch norm's running statistics keep at every step."""
    prenorm: bool = True
    bidirectional: bool = True
    discretization: Discretization = "zoh"
    output_init: OutputInit = "lecun_normal"
    clip_eigenvalues: bool = False
    dt_min: float = 1e-3
    dt_max: float = 0.1
    dropout: float = 0.0


class S5SSM(nn.Module):
    """`x' = Λx + Bu, y = 2·Re(Cx) + D∘u`, with one step size per state (paper, sections 3.1 and 3.2).

    The state starts as `blocks` diagonalised HiPPO-LegS matrices (section 3.3). Backwards, the same Λ and B
    are run from the end, with a C of their own.

    conj_sym: keep one state of every conjugate pair, else all; step_rescale: factor of the step sizes, for
    inputs at another sampling rate.
    """

    def __init__(
        self,
        dim: int,
        state: int,
        *,
        blocks: int = 1,
        bidirectional: bool = False,
        discretization: Discretization = "zoh",
        output_init: OutputInit = "lecun_normal",
        clip_eigenvalues: bool = False,
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        conj_sym: bool = True,
        step_rescale: float = 1.0,
    ) -> None:
        super().__init__()
        if discretization not in ("zoh", "bilinear"):
            raise ValueError(f"unknown discretization {discretization!r}: choose zoh or bilinear")
        eigenvalues, V = hippo_blocks(state, blocks, conj_sym)
        kept = len(eigenvalues)
        self.Lambda_re = nn.Parameter(eigenvalues.real.to(torch.get_default_dtype()))
        self.Lambda_im = nn.Parameter(eigenvalues.imag.to(torch.get_default_dtype()))
        self.B = nn.Parameter(as_pairs(V.mH @ lecun_normal(state, dim, fan_in=state).to(V.dtype)))
        self.directions = 2 if bidirectional else 1
        self.C_names = ("C1", "C2") if bidirectional and output_init != "complex_normal" else ("C",)
        for name in self.C_names:
            width = self.directions // len(self.C_names)
            self.register_parameter(name, nn.Parameter(initial_C(dim, V, output_init, width)))
        self.D = nn.Parameter(torch.randn(dim))
        self.log_step = nn.Parameter(log_uniform(kept, dt_min, dt_max).unsqueeze(-1))
        self.discretization = discretization
        self.clip_eigenvalues = clip_eigenvalues
        self.multiplicity = 2 if conj_sym else 1
        self.step_rescale = step_rescale

    def forward(self, u: Tensor) -> Tensor:
        """u `(batch, length, dim)` to y of the same shape, computed in float32 at least."""
        with torch.autocast(u.device.type, enabled=False):
            y = self._run(at_least_float32(u))
        return y.to(u.dtype)

    def discretized(self) -> tuple[Tensor, Tensor]:
        """Λ̄ `(kept states,)` and B̄ `(kept states, dim)`, complex."""
        real = self.Lambda_re.clamp(max=LARGEST_REAL_PART) if self.clip_eigenvalues else self.Lambda_re
        eigenvalues = torch.complex(at_least_float32(real), at_least_float32(self.Lambda_im))
        step = self.step_rescale * at_least_float32(self.log_step).squeeze(-1).exp()
        if self.discretization == "zoh":
            decay = torch.exp(eigenvalues * step)
            gain = (decay - 1) / eigenvalues
        else:
            half = eigenvalues * step / 2
            decay = (1 + half) / (1 - half)
            gain = step / (1 - half)
        return decay, gain.unsqueeze(-1) * as_complex(self.B)

    def _run(self, u: Tensor) -> Tensor:
        decay, B = self.discretized()
        inputs = _complex_linear(u, B)
        y = at_least_float32(self.D) * u
        for direction, C in enumerate(self._output_matrices()):
            y = y + self._output(linear_scan(decay, inputs, reverse=direction == 1), C)
        return y

    def _output(self, states: Tensor, C: Tensor) -> Tensor:
        """`2·Re(Cx)`, or `Re(Cx)` if all states are kept; Re(Cx) is Re C·Re x − Im C·Im x."""
        weight = self.multiplicity * torch.view_as_real(C.conj().resolve_conj()).flatten(1)
        return F.linear(torch.view_as_real(states).flatten(-2), weight)

    def state_after(self, u: Tensor, room: int) -> State:
        """States, complex `(batch, kept states)`. Raises NoRecurrentForm if it runs both ways."""
        if self.directions > 1:
            raise NoRecurrentForm("no recurrent form: the state space runs backwards too")
        decay, B = self.discretized()
        states = final_state(decay.log().unsqueeze(-1), _complex_linear(at_least_float32(u), B))
        return State((states.squeeze(-1),), (decay, B, *self._output_matrices()))

    def step(self, u: Tensor, state: State, time: int) -> Tensor:
        """u `(batch, dim)` at a time step, to the same shape."""
        (states,), (decay, B, C) = state.memory, state.constants
        with torch.autocast(u.device.type, enabled=False):
            wide = at_least_float32(u)
            states.mul_(decay).add_(_complex_linear(wide, B))
            return (at_least_float32(self.D) * wide + self._output(states, C)).to(u.dtype)

    def _output_matrices(self) -> tuple[Tensor, ...]:
        """C of every direction, each `(dim, kept states)`."""
        C = torch.cat([as_complex(self.get_parameter(name)) for name in self.C_names], dim=-1)
        return C.chunk(self.directions, dim=-1)


def _complex_linear(u: Tensor, B: Tensor) -> Tensor:
    """`B u` for real u `(…, dim)` and complex B `(states, dim)`: a real product of twice the width."""
    pairs = F.linear(u, torch.view_as_real(B).transpose(1, 2).flatten(0, 1))
    return torch.view_as_complex(pairs.view(*u.shape[:-1], len(B), 2))


class S5Layer(nn.Module):
    """Norm, state-space model, gated activation and a residual sum; or the norm last."""

    def __init__(
        self,
        ssm: S5SSM,
        *,
        activation: Activation = "half_glu1",
        norm: NormKind = "batchnorm",
        momentum: float = 0.95,
        prenorm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if activation not in ("half_glu1", "half_glu2", "full_glu", "gelu"):
            raise ValueError(
                f"unknown activation {activation!r}: choose half_glu1, half_glu2, full_glu or gelu"
            )
        dim = len(ssm.D)
        self.seq = ssm
        self.norm = BatchNorm(dim, momentum) if norm == "batchnorm" else LayerNorm(dim)
        if activation == "full_glu":
            self.out1 = Dense(dim, dim)
        if activation != "gelu":
            self.out2 = Dense(dim, dim)
        self.dropout = TiedDropout(dropout)
        self.activation = activation
        self.prenorm = prenorm

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """x `(batch, length, dim)` to the same shape; S5 does not use the padding mask."""
        if self.prenorm:
            return x + self._activate(self.seq(self.norm(x)))
        y: Tensor = self.norm(x + self._activate(self.seq(x)))
        return y

    def state_after(self, x: Tensor, room: int) -> State:
        """State of the state-space model."""
        return self.seq.state_after(self.norm(x) if self.prenorm else x, room)

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        if self.prenorm:
            return x + self._activate(self.seq.step(self.norm(x), state, time))
        y: Tensor = self.norm(x + self._activate(self.seq.step(x, state, time)))
        return y

    def _activate(self, x: Tensor) -> Tensor:
        active = self.dropout(F.gelu(x, approximate="tanh"))
        if self.activation == "gelu":
            y: Tensor = active
        elif self.activation == "half_glu2":
            y = self.dropout(x * torch.sigmoid(self.out2(active)))
        elif self.activation == "half_glu1":
            y = self.dropout(active * torch.sigmoid(self.out2(active)))
        else:
            y = self.dropout(self.out1(active) * torch.sigmoid(self.out2(active)))
        return y


def hippo_blocks(state: int, blocks: int, conj_sym: bool = True) -> tuple[Tensor, Tensor]:
    """Λ `(kept,)` and V `(state, kept)` of a block-diagonal normal HiPPO-LegS matrix, complex128.

    kept: half of the states, those of negative frequency, with conj_sym; else all. Raises ValueError if
    the state does not divide into blocks of even size.
    """
    if state % (2 * blocks):
        raise ValueError(f"a state of {state} does not divide into {blocks} blocks of even size")
    hippo = nplr_legs(state // blocks)
    eigenvalues, V = hippo.A, hippo.V
    if not conj_sym:
        eigenvalues = torch.cat([eigenvalues, eigenvalues.conj().flip(0)])
        V = torch.cat([V, V.conj().flip(1)], dim=1)
    return eigenvalues.repeat(blocks), torch.block_diag(*[V] * blocks)  # type: ignore[no-untyped-call]


def initial_C(dim: int, V: Tensor, kind: OutputInit, directions: int = 1) -> Tensor:
    """C `(dim, directions·kept, 2)`, as flax draws it.

    `complex_normal`: unit complex normal. Else `C₀V` with C₀ truncated normal, its parts of variance
    `1/state`, or `1/(state·dim)` for `lecun_normal`, which counts the rows of the kernel into its fan. Raises
    ValueError for an unknown kind.
    """
    state, kept = V.shape
    if kind == "complex_normal":
        return torch.randn(dim, directions * kept, 2) * math.sqrt(0.5)
    if kind not in ("lecun_normal", "trunc_standard_normal"):
        raise ValueError(
            f"unknown output_init {kind!r}: choose lecun_normal, trunc_standard_normal or complex_normal"
        )
    fan_in = state * dim if kind == "lecun_normal" else state
    pairs = lecun_normal(dim, state, 2, fan_in=fan_in)
    return as_pairs(torch.view_as_complex(pairs).to(V.dtype) @ V)


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """S5 for a task. Raises TypeError for an unknown hyper-parameter.

    A causal task takes only the forward scan, and LayerNorm: batch statistics would let the past see the
    future.
    """
    config = S5Config(**hyperparameters)
    layers = [_layer(config, task.causal) for _ in range(config.layers)]
    embedding = InputDense(1 if task.input == "reals" else task.vocabulary, config.dim)
    encoder = Encoder(embedding, layers, embeds_padding=True)
    if task.head == "language-model":
        return LanguageModel(encoder, config.dim, task.vocabulary)
    if task.head == "classifier":
        return Classifier(encoder, Dense(config.dim, task.classes))
    head = nn.Sequential(
        Dense(4 * config.dim, config.dim), nn.GELU(approximate="tanh"), Dense(config.dim, task.classes)
    )
    return TwoTower(encoder, head, jointly=True)


def _layer(config: S5Config, causal: bool) -> S5Layer:
    ssm = S5SSM(
        config.dim,
        config.state,
        blocks=config.blocks,
        bidirectional=config.bidirectional and not causal,
        discretization=config.discretization,
        output_init=config.output_init,
        clip_eigenvalues=config.clip_eigenvalues,
        dt_min=config.dt_min,
        dt_max=config.dt_max,
    )
    return S5Layer(
        ssm,
        activation=config.activation,
        norm="layernorm" if causal else config.norm,
        momentum=config.momentum,
        prenorm=config.prenorm,
        dropout=config.dropout,
    )
