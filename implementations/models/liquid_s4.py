"""Liquid-S4 (Hasani et al., Liquid Structural State-Space Models, ICLR 2023): S4 with a liquid term.

The liquid term adds products of 2, 3, … `degree` inputs, weighted by the state space's own coefficients
(paper, section 3): `polyb` keeps those of the input matrix alone, `kb` those of the whole kernel.

Oddities of the official code, kept because its figures come from it:

- The liquid term reads frozen copies of B, C, the eigenvalues and the step sizes, made at initialisation: no
  gradient reaches them. Its C is the conjugate of the one that the trained kernel starts from.
- It acts in reversed time, so that a "causal" Liquid-S4 sees the future, and padding at the end moves what it
  adds: no form of it is causal or independent of padding.
- With all combinations, the products are those of the last few inputs (92 for pairs of 4096) in lexicographic
  order, cut to the last `length` of them, and stand in for a sequence.
- `kb` multiplies a transform of length 2·length by one of length + 1, whose frequencies differ: what it adds
  is not a convolution with the kernel, and it takes only one tap of a backward kernel.
- The diagonal state space, too, is bilinear.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.models.s4 import S4Block, TruncatedKernel
from implementations.models.state_space import BackboneConfig, backbone
from implementations.ops.combinations import products
from implementations.ops.fft_conv import fft_convolution
from implementations.ops.ssm import (
    as_complex,
    as_pairs,
    at_least_float32,
    log_uniform,
    nplr_legs,
)
from implementations.ops.ssm_kernels import diagonal_kernel, dplr_kernel
from implementations.task import Task

LiquidKind = Literal["polyb", "kb"]
Mode = Literal["nplr", "diag"]


@dataclass(frozen=True, kw_only=True)
class LiquidS4Config(BackboneConfig):
    """Hyper-parameters of Liquid-S4."""

    state_dim: int = 64
    """Real states per channel; half as many complex ones are kept."""
    liquid: LiquidKind = "polyb"
    degree: int = 2
    """Most inputs that the liquid term multiplies."""
    all_combinations: bool = True
    """Multiply all combinations of the last inputs, else neighbours in time."""
    bidirectional: bool = False
    mode: Mode = "nplr"


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """Liquid-S4 for a task. Raises TypeError for an unknown hyper-parameter, ValueError for a causal task."""
    if task.causal:
        raise ValueError("Liquid-S4's liquid term reads the sequence from its end: it has no causal form")
    config = LiquidS4Config(**hyperparameters)

    def layer() -> nn.Module:
        kernel = LiquidKernel(
            config.dim,
            config.state_dim,
            kernels=2 if config.bidirectional else 1,
            mode=config.mode,
            max_length=task.length,
            dt_min=config.dt_min,
            dt_max=config.dt_max,
        )
        return LiquidS4Block(
            config.dim,
            kernel,
            liquid=config.liquid,
            degree=config.degree,
            all_combinations=config.all_combinations,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
        )

    return backbone(task, config, [layer() for _ in range(config.layers)])


class LiquidS4Block(S4Block):
    """S4's block over `(batch, length, dim)` whose state space adds a liquid term before the activation.

    Raises ValueError if degree is below 2 or `liquid` unknown.
    """

    kernel: "LiquidKernel"

    def __init__(
        self,
        dim: int,
        kernel: "LiquidKernel",
        *,
        liquid: LiquidKind = "polyb",
        degree: int = 2,
        all_combinations: bool = True,
        bidirectional: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(dim, kernel, bidirectional=bidirectional, **options)
        if degree < 2:
            raise ValueError(f"degree is {degree}: the liquid term multiplies 2 inputs or more")
        if liquid not in ("polyb", "kb"):
            raise ValueError(f"unknown liquid kernel {liquid!r}: choose polyb or kb")
        self.liquid = liquid
        self.degree = degree
        self.all_combinations = all_combinations

    def convolve(self, u: Tensor) -> Tensor:
        """Response, feed-through and liquid term: `(batch, length, dim)` to the same shape."""
        u = at_least_float32(u)
        kernels = self.kernel(u.shape[1])
        if self.bidirectional:
            y = fft_convolution(u, F.pad(kernels[0], (0, 1)), F.pad(kernels[1], (1, 0)))
        else:
            y = fft_convolution(u, kernels[0])
        y = torch.addcmul(y, u, self.D[0])
        terms = products(u, self.degree, self.all_combinations)
        return y + (self._polyb(terms) if self.liquid == "polyb" else self._kb(terms, kernels))

    def _polyb(self, terms: Iterator[Tensor]) -> Tensor:
        """`Σ_p 2·Re⟨C, B̄_p⟩ · p-th products`, with `B̄_p = B̄_{p−1}·ΣB̄_{p−1}` and `B̄_1 = B̄`."""
        C, gain = as_complex(self.kernel.C), self.kernel.input_gain()
        sums = list(gain.real.new_zeros(len(C)))
        for term in terms:
            gain = gain * both_conjugates(gain).unsqueeze(-1)
            weights = both_conjugates(C * gain)
            sums = [torch.addcmul(total, weight, term) for total, weight in zip(sums, weights, strict=True)]
        backwards, *forwards = sums
        y: Tensor = sum(forwards, start=backwards.flip(1))
        return y

    def _kb(self, terms: Iterator[Tensor], kernels: Tensor) -> Tensor:
        """`Σ_p (ΣB̄)^(p−1) · p-th products`, through the kernel's transform at the wrong frequencies."""
        scale = both_conjugates(self.kernel.input_gain())
        inputs = torch.zeros_like(scale)
        for power, term in enumerate(terms, start=1):
            inputs = torch.addcmul(inputs, scale**power, term)
        length, taps = inputs.shape[1], kernels.shape[2]
        size = taps + length
        kernel = F.pad(kernels[0], (0, length))
        if self.bidirectional:
            kernel = kernel + F.pad(kernels[1].flip(-1), (length, 0))
        bins = size // 2 + 1
        spectrum = torch.fft.rfft(inputs.flip(1).mT, n=size) * torch.fft.fft(kernel, n=bins)
        y: Tensor = torch.fft.irfft(spectrum, n=size)
        return y[..., :length].mT


def both_conjugates(x: Tensor) -> Tensor:
    """The sum over states, `(…, states)` to real `(…)`, counting the conjugates that are not kept."""
    return 2 * x.real.sum(dim=-1)


class LiquidKernel(nn.Module):
    """The trained state space, which gives the convolution kernels, and the liquid term's frozen copy of it.

    B, w: `(n_ssm, states, 2)`, C: `(kernels, dim, states, 2)` and log_dt: `(dim,)` are frozen as they were at
    initialisation. n_ssm: number of independent state matrices, which channel h takes modulo it; None for one
    per channel.
    """

    B: Tensor
    C: Tensor
    w: Tensor
    log_dt: Tensor

    def __init__(
        self,
        dim: int,
        state_dim: int,
        kernels: int = 1,
        *,
        mode: Mode = "nplr",
        n_ssm: int | None = None,
        max_length: int | None = None,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__()
        if mode not in ("nplr", "diag"):
            raise ValueError(f"unknown mode {mode!r}: choose nplr or diag")
        n_ssm = n_ssm or dim
        if dim % n_ssm:
            raise ValueError(f"n_ssm is {n_ssm}: it must divide the width, {dim}")
        self.max_length = max_length
        states = state_dim // 2
        C = torch.randn(kernels, dim, states, dtype=torch.cdouble)
        log_dt = log_uniform(dim, dt_min, dt_max)
        self.kernel: LowRankKernel | DiagonalKernel
        if mode == "nplr":
            legs = nplr_legs(state_dim)
            w, B, P = (x.expand(n_ssm, -1) for x in (legs.A, legs.B, legs.P))
            self.kernel = LowRankKernel(w, B, C.conj(), log_dt, P, max_length)
        else:
            B = torch.ones(n_ssm, states, dtype=torch.cdouble)
            w = -0.5 * B + math.pi * 1j * torch.arange(states)
            self.kernel = DiagonalKernel(w, B, C.conj(), log_dt)
        for name, value in {"B": as_pairs(B), "C": as_pairs(C), "w": as_pairs(w), "log_dt": log_dt}.items():
            self.register_buffer(name, value.clone())

    def forward(self, length: int) -> Tensor:
        """The convolution kernels `(kernels, dim, length)`, cut at max_length."""
        kernels: Tensor = self.kernel(min(length, self.max_length or length))
        return kernels

    def input_gain(self) -> Tensor:
        """`B̄ = dt·B/(1 − dt·w/2)`, complex `(dim, states)`."""
        dt = at_least_float32(self.log_dt).exp().unsqueeze(1)
        B, w = (x.repeat(len(dt) // len(x), 1) for x in (as_complex(self.B), as_complex(self.w)))
        return dt * B / (1 - dt * w / 2)


class LowRankKernel(TruncatedKernel):
    """S4's kernel, with `w = −exp(inv_w_real) + i·w_imag` and `dt = exp(log_dt)`; C is truncated at L."""

    L: Tensor

    def __init__(
        self, w: Tensor, B: Tensor, C: Tensor, log_dt: Tensor, P: Tensor, max_length: int | None = None
    ) -> None:
        super().__init__()
        self.inv_w_real = nn.Parameter((-w.real).log().to(log_dt.dtype))
        self.w_imag = nn.Parameter(w.imag.to(log_dt.dtype))
        self.B = nn.Parameter(as_pairs(B.unsqueeze(0)))
        self.C = nn.Parameter(as_pairs(C.resolve_conj()))
        self.P = nn.Parameter(as_pairs(P.unsqueeze(0)))
        self.log_dt = nn.Parameter(log_dt)
        self.register_buffer("L", torch.tensor(0))
        self.max_length = max_length

    def forward(self, length: int) -> Tensor:
        """`(kernels, dim, length)`."""
        with torch.autocast(self.C.device.type, enabled=False):
            dt = at_least_float32(self.log_dt).exp()
            w = torch.complex(-at_least_float32(self.inv_w_real).exp(), at_least_float32(self.w_imag))
            w, B, P = (
                x.repeat(len(dt) // len(x), 1) for x in (w, as_complex(self.B[0]), as_complex(self.P[0]))
            )
            full = self._truncated_at(self.L, length, lambda: (w, P, dt))
            return dplr_kernel(w, B, as_complex(self.C), P, dt, full)[..., :length]


class DiagonalKernel(nn.Module):
    """S4D's kernel in bilinear form, with `A = −exp(inv_A_real) + i·A_imag` and `dt = exp(log_dt)`."""

    def __init__(self, A: Tensor, B: Tensor, C: Tensor, log_dt: Tensor) -> None:
        super().__init__()
        self.inv_A_real = nn.Parameter((-A.real).log().to(log_dt.dtype))
        self.A_imag = nn.Parameter(A.imag.to(log_dt.dtype))
        self.B = nn.Parameter(as_pairs(B))
        self.C = nn.Parameter(as_pairs(C.resolve_conj()))
        self.log_dt = nn.Parameter(log_dt)

    def forward(self, length: int) -> Tensor:
        """`(kernels, dim, length)`."""
        with torch.autocast(self.C.device.type, enabled=False):
            dt = at_least_float32(self.log_dt).exp().unsqueeze(1)
            A = torch.complex(-at_least_float32(self.inv_A_real).exp(), at_least_float32(self.A_imag))
            A, B = (x.repeat(len(dt) // len(x), 1) for x in (A, as_complex(self.B)))
            half = dt * A / 2
            return diagonal_kernel(
                as_complex(self.C) * dt * B / (1 - half), ((1 + half) / (1 - half)).log(), length
            )
