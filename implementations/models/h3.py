"""H3: a shift and a diagonal state space with products between them, in place of attention.

Fu, Dao, Saab, Thomas, Rudra and Ré, ICLR 2023, arXiv 2212.14052.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from implementations.decoding import State, push, window
from implementations.models.s4d import diagonal_init, discretise
from implementations.models.state_space import BackboneConfig, backbone
from implementations.ops.fft_conv import fft_convolution
from implementations.ops.ssm import (
    DiagonalRecurrence,
    as_complex,
    as_pairs,
    at_least_float32,
    log_uniform,
)
from implementations.ops.ssm_kernels import diagonal_kernel
from implementations.task import Task


@dataclass(frozen=True, kw_only=True)
class H3Config(BackboneConfig):
    """Hyper-parameters of H3."""

    ffn: int
    """Width of the feed-forward sub-layer that follows each H3 layer."""
    state_dim: int = 64
    """Taps of the shift, and real states of the diagonal state space."""
    head_dim: int = 1


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    """H3 for a task; see H3Config. Causal on every task. Raises TypeError on unknown hyper-parameters."""
    config = H3Config(**hyperparameters)
    layers: list[nn.Module] = []
    for _ in range(config.layers):
        h3 = H3(config.dim, config.state_dim, config.head_dim, dt_min=config.dt_min, dt_max=config.dt_max)
        layers += [h3, FeedForward(config.dim, config.ffn)]
    return backbone(task, config, layers)


class ShiftKernel(nn.Module):
    """`K_l = Σ_n C_{n+l}·B_n`: a state that holds the last state_dim inputs; B is the first unit vector."""

    def __init__(self, dim: int, state_dim: int) -> None:
        super().__init__()
        B = torch.zeros(dim, state_dim)
        B[:, 0] = 1.0
        self.B = nn.Parameter(B)
        self.C = nn.Parameter(torch.randn(1, dim, state_dim))

    def forward(self, length: int) -> Tensor:
        """`(dim, min(state_dim, length))`: there is nothing beyond the state's size."""
        taps = self.B.shape[1]
        B, C = at_least_float32(self.B), at_least_float32(self.C[0])
        spectrum = torch.fft.rfft(C, n=2 * taps) * torch.fft.rfft(B, n=2 * taps).conj()
        kernel: Tensor = torch.fft.irfft(spectrum, n=2 * taps)
        return kernel[:, : min(taps, length)]


class DiagonalKernel(DiagonalRecurrence):
    """`K_l = 2·Re Σ_n C_n B̄_n Ā_nˡ`, bilinear, with frequencies πn, which is S4D-Lin."""

    def __init__(self, dim: int, state_dim: int, dt_min: float = 0.001, dt_max: float = 0.1) -> None:
        super().__init__()
        A, B = diagonal_init(state_dim, "lin")
        C = torch.randn(1, dim, state_dim // 2, dtype=torch.cdouble)
        self.log_dt = nn.Parameter(log_uniform(dim, dt_min, dt_max))
        self.inv_A_real = nn.Parameter((-A.real).log().to(self.log_dt.dtype).repeat(dim, 1))
        self.A_imag = nn.Parameter((-A.imag).to(self.log_dt.dtype).repeat(dim, 1))
        self.B = nn.Parameter(as_pairs(B.repeat(dim, 1)))
        self.C = nn.Parameter(as_pairs(C))

    def forward(self, length: int) -> Tensor:
        """`(dim, length)`."""
        with torch.autocast(self.C.device.type, enabled=False):
            return diagonal_kernel(*self.terms(), length)[0]

    def terms(self) -> tuple[Tensor, Tensor]:
        A = torch.complex(-at_least_float32(self.inv_A_real).exp(), at_least_float32(self.A_imag))
        log_step, gain = discretise(A, at_least_float32(self.log_dt).exp(), "bilinear")
        return as_complex(self.C) * as_complex(self.B) * gain, log_step


class H3(nn.Module):
    """`q ⊙ SSM_diag(SSM_shift(k) ⊙ v)`; k and v form an outer product within each head.

    Section 3.1 of the paper. Causal, so that padding, which comes last, is left as it is.
    Raises ValueError if head_dim does not divide dim.
    """

    def __init__(
        self, dim: int, state_dim: int = 64, head_dim: int = 1, dt_min: float = 0.001, dt_max: float = 0.1
    ) -> None:
        super().__init__()
        if dim % head_dim:
            raise ValueError(f"head_dim is {head_dim}: it must divide the width, {dim}")
        heads = dim // head_dim
        self.head_dim = head_dim
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.shift = ShiftKernel(dim, state_dim)
        self.shift_D = nn.Parameter(torch.randn(dim))
        self.diagonal = DiagonalKernel(heads, state_dim, dt_min, dt_max)
        self.D = nn.Parameter(torch.randn(heads))
        self.output_linear = nn.Linear(dim, dim)

    def forward(self, u: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """u `(batch, length, dim)`; padding_mask is not needed."""
        q, k, v = self._projections(u)
        return self._read(q, self._remember(self._products(self._shifted(k), v)))

    def state_after(self, u: Tensor, room: int) -> State:
        """The last keys `(batch, state_dim, dim)`, and the state of the diagonal state space.

        Constant: the shift's kernel, the oldest tap first.
        """
        _, k, v = self._projections(u)
        taps = self.shift.B.shape[1]
        shift = State((window(k, taps),), (self.shift(taps).flip(1).T,))
        return State(parts=(shift, self.diagonal.state_after(self._products(self._shifted(k), v))))

    def step(self, u: Tensor, state: State, time: int) -> Tensor:
        """u `(batch, dim)` at a time step, to the same shape."""
        shift, diagonal = state.parts
        (keys,), (taps,) = shift.memory, shift.constants
        q, k, v = self._projections(u.unsqueeze(1))
        push(keys, k.squeeze(1))
        shifted = (keys * taps).sum(dim=1, keepdim=True) + k * self.shift_D
        kv = self._products(shifted, v)
        response = self.diagonal.step(kv.squeeze(1), diagonal)
        return self._read(q, torch.addcmul(response, kv, self.D)).squeeze(1)

    def _projections(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (at_least_float32(project(u)) for project in (self.q_proj, self.k_proj, self.v_proj))
        return q, k, v

    def _shifted(self, k: Tensor) -> Tensor:
        return torch.addcmul(fft_convolution(k, self.shift(k.shape[1])), k, self.shift_D)

    def _products(self, k: Tensor, v: Tensor) -> Tensor:
        """k and v `(batch, length, dim)` to their outer products, `(batch·head_dim², length, heads)`.

        Channel h·head_dim + d is the d-th of head h; the heads share their kernel, so that k's and v's
        channels within a head stand with the batch.
        """
        if self.head_dim == 1:
            return k * v
        k, v = self._by_head(k), self._by_head(v)
        return (k.unsqueeze(2) * v.unsqueeze(1)).flatten(0, 2)

    def _read(self, q: Tensor, remembered: Tensor) -> Tensor:
        """Reading of the remembered products by q `(batch, length, dim)`, projected."""
        if self.head_dim == 1:
            return self._project(q * remembered)
        q = self._by_head(q).unsqueeze(2)
        products = remembered.view(q.shape[0], self.head_dim, self.head_dim, *remembered.shape[1:])
        return self._project((q * products).sum(dim=1).transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        """`(batch, length, dim)` to `(batch, head_dim, length, heads)`."""
        heads = x.shape[2] // self.head_dim
        return x.view(*x.shape[:2], heads, self.head_dim).permute(0, 3, 1, 2)

    def _remember(self, kv: Tensor) -> Tensor:
        """The diagonal state space over `(batch, length, heads)`."""
        return torch.addcmul(fft_convolution(kv, self.diagonal(kv.shape[1])), kv, self.D)

    def _project(self, y: Tensor) -> Tensor:
        # Weights held in half precision take what the state spaces computed in float32.
        out: Tensor = self.output_linear(y.to(self.output_linear.weight.dtype))
        return out


class FeedForward(nn.Module):
    """`Linear(gelu(Linear(x)))` over `(batch, length, dim)`."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        y: Tensor = self.layers(x)
        return y

    def state_after(self, x: Tensor, room: int) -> State:
        """An empty state: no step depends on another."""
        return State()

    def step(self, x: Tensor, state: State, time: int) -> Tensor:
        """x `(batch, dim)` at a time step, to the same shape."""
        return self(x)  # type: ignore[no-any-return]
