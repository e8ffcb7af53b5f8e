"""S4D: the state space of S4 without its low-rank term; here with the LegS initialisation.

Gu, Gupta, Goel and Ré, NeurIPS 2022, arXiv 2206.11893.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.models.s4 import S4Config, SSMKernel, StepTransform, build_around, clip_imaginary
from implementations.ops.fft_conv import fft_convolution
from implementations.ops.ssm import (
    DiagonalRecurrence,
    TiedDropout,
    as_complex,
    as_pairs,
    at_least_float32,
    log_uniform,
    nplr_legs,
)
from implementations.ops.ssm_kernels import diagonal_kernel
from implementations.task import Task

Discretisation = Literal["zoh", "bilinear"]
Initialisation = Literal["legs", "lin"]


@dataclass(frozen=True, kw_only=True)
class S4DConfig(S4Config):
    """Hyper-parameters of S4D: those of S4."""

    init: Initialisation = "legs"


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """S4D for a task; see S4DConfig. Raises TypeError on unknown hyper-parameters."""
    config = S4DConfig(**hyperparameters)
    return build_around(
        task,
        config,
        lambda kernels: DiagonalKernel(
            config.dim,
            config.state_dim,
            kernels,
            init=config.init,
            n_ssm=config.n_ssm,
            dt_min=config.dt_min,
            dt_max=config.dt_max,
        ),
    )


def diagonal_init(state_dim: int, init: Initialisation) -> tuple[Tensor, Tensor]:
    """A and B `(state_dim/2,)`: those of HiPPO-LegS without its low-rank term, or −½ − iπn and ones."""
    legs = nplr_legs(state_dim)
    if init == "legs":
        return legs.A, clip_imaginary(legs.B)
    frequency = -math.pi * torch.arange(state_dim // 2, dtype=torch.float64)
    return torch.complex(torch.full_like(frequency, -0.5), frequency), torch.ones_like(legs.B)


def discretise(A: Tensor, dt: Tensor, kind: Discretisation) -> tuple[Tensor, Tensor]:
    """`log Ā` and `B̄/B`, both `(dim, states)`, of a diagonal state space: A `(dim, states)`, dt `(dim,)`."""
    step = A * dt.unsqueeze(1)
    if kind == "zoh":
        return step, torch.expm1(step) / A
    return ((1 + step / 2) / (1 - step / 2)).log(), dt.unsqueeze(1) / (1 - step / 2)


class DiagonalKernel(SSMKernel, DiagonalRecurrence):
    """`K_l = 2·Re Σ_n C_n B̄_n Ā_nˡ`; `forward(length)` gives `(kernels, dim, length)` for any length."""

    def __init__(
        self,
        dim: int,
        state_dim: int,
        kernels: int = 1,
        *,
        init: Initialisation = "legs",
        discretisation: Discretisation = "zoh",
        n_ssm: int | None = None,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_transform: StepTransform = "softplus",
    ) -> None:
        A, B = (x.expand(n_ssm or dim, -1) for x in diagonal_init(state_dim, init))
        super().__init__(A, B, dim, kernels, dt_min=dt_min, dt_max=dt_max, dt_transform=dt_transform)
        self.discretisation = discretisation

    def forward(self, length: int, rate: float = 1.0) -> Tensor:
        """Kernels of that length; rate: number of trained time steps per step here."""
        with torch.autocast(self.C.device.type, enabled=False):
            return diagonal_kernel(*self.terms(rate), length)

    def terms(self, rate: float = 1.0) -> tuple[Tensor, Tensor]:
        log_step, gain = discretise(self.A(), self.dt() * rate, self.discretisation)
        return as_complex(self.C) * self._spread(as_complex(self.B[0])) * gain, log_step


class StandaloneKernel(nn.Module):
    """The kernel of the official standalone S4D: B is absorbed in C, states lin, dt by exp, zoh."""

    def __init__(self, dim: int, state_dim: int, dt_min: float = 0.001, dt_max: float = 0.1) -> None:
        super().__init__()
        A, _ = diagonal_init(state_dim, "lin")
        states = (dim, state_dim // 2)
        self.C = nn.Parameter(as_pairs(torch.randn(states, dtype=torch.cdouble)))
        self.log_dt = nn.Parameter(log_uniform(dim, dt_min, dt_max))
        self.log_A_real = nn.Parameter((-A.real).log().to(self.C.dtype).repeat(dim, 1))
        self.A_imag = nn.Parameter((-A.imag).to(self.C.dtype).repeat(dim, 1))

    def forward(self, length: int) -> Tensor:
        """`(dim, length)`."""
        with torch.autocast(self.C.device.type, enabled=False):
            A = torch.complex(-at_least_float32(self.log_A_real).exp(), at_least_float32(self.A_imag))
            log_step, gain = discretise(A, at_least_float32(self.log_dt).exp(), "zoh")
            return diagonal_kernel((as_complex(self.C) * gain).unsqueeze(0), log_step, length)[0]


class StandaloneS4D(nn.Module):
    """The official standalone S4D, causal: `GLU(Conv1d(gelu(kernel * u + D·u)))`, `(batch, length, dim)`."""

    def __init__(self, dim: int, state_dim: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.D = nn.Parameter(torch.randn(dim))
        self.kernel = StandaloneKernel(dim, state_dim)
        self.dropout = TiedDropout(dropout)
        self.output_linear = nn.Sequential(nn.Conv1d(dim, 2 * dim, kernel_size=1), nn.GLU(dim=1))

    def forward(self, u: Tensor) -> Tensor:
        u = at_least_float32(u)
        y = torch.addcmul(fft_convolution(u, self.kernel(u.shape[1])), u, self.D)
        dropped = self.dropout(F.gelu(y)).to(self.D.dtype)
        out: Tensor = self.output_linear(dropped.transpose(1, 2))
        return out.transpose(1, 2)
