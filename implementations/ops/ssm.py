"""Parts that the state-space layers share: HiPPO initialisation, complex parameters, dropout of channels.

Complex parameters are stored as real pairs in a last dimension of 2, as in the official code; of every
conjugate pair of states only one is kept.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from implementations.decoding import State
from implementations.ops.scan import final_state

NormKind = Literal["batchnorm", "layernorm"]


class NPLR(NamedTuple):
    """`V diag(A) Vᴴ` plus its conjugate is `A_hippo + P Pᵀ`; complex128, by ascending negative frequency."""

    A: Tensor
    """`(state_dim/2,)` eigenvalues."""
    P: Tensor
    """`(state_dim/2,)` low-rank term in the eigenvectors' basis."""
    B: Tensor
    """`(state_dim/2,)` input vector in the eigenvectors' basis."""
    V: Tensor
    """`(state_dim, state_dim/2)` eigenvectors, each of arbitrary phase."""


def hippo_legs(state_dim: int) -> tuple[Tensor, Tensor]:
    """HiPPO-LegS (Gu et al. 2020, theorem 2): A `(state_dim, state_dim)` and B `(state_dim,)` in float64."""
    n = torch.arange(state_dim, dtype=torch.float64)
    B = torch.sqrt(2 * n + 1)
    A = -torch.tril(torch.outer(B, B), diagonal=-1) - torch.diag(n + 1)
    return A, B


def nplr_legs(state_dim: int) -> NPLR:
    """HiPPO-LegS as normal plus low rank (Gu et al. 2022, theorem 1), one state of every conjugate pair.

    With an odd state_dim, the state of frequency zero, which has no pair, is left out.
    """
    A, B = hippo_legs(state_dim)
    P = torch.sqrt(torch.arange(state_dim, dtype=torch.float64) + 0.5)
    # A + P Pᵀ is −½ on the diagonal and skew-symmetric off it, so i times it is Hermitian.
    skew = A + torch.outer(P, P) + 0.5 * torch.eye(state_dim, dtype=torch.float64)
    imaginary, V = torch.linalg.eigh(-1j * skew)
    half = state_dim // 2
    V = V[:, :half]
    return NPLR(
        A=torch.complex(torch.full((half,), -0.5, dtype=torch.float64), imaginary[:half]),
        P=V.mH @ P.to(V.dtype),
        B=V.mH @ B.to(V.dtype),
        V=V,
    )


def log_uniform(size: int, low: float, high: float) -> Tensor:
    """`(size,)` logarithms of step sizes that are log-uniform between low and high."""
    return torch.rand(size) * math.log(high / low) + math.log(low)


def as_pairs(x: Tensor) -> Tensor:
    """A complex tensor in the default precision as real pairs `(…, 2)`."""
    return torch.view_as_real(x).to(torch.get_default_dtype()).contiguous()


def as_complex(pairs: Tensor) -> Tensor:
    """Real pairs `(…, 2)` as a complex tensor, in float32 at least."""
    return torch.view_as_complex(at_least_float32(pairs).contiguous())


def at_least_float32(x: Tensor) -> Tensor:
    """x in at least float32: half precision has neither complex arithmetic nor Fourier transforms."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


class TiedDropout(nn.Module):
    """Dropout of whole channels of `(batch, length, dim)`: one mask for all time steps."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        mask: Tensor = F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.p)
        return x * mask


class DiagonalRecurrence(nn.Module, ABC):
    """A kernel `K_l = 2·Re Σ_n weights_n · exp(l·exponents_n)` as the recurrence that it comes from."""

    @abstractmethod
    def terms(self) -> tuple[Tensor, Tensor]:
        """weights: complex `(kernels, dim, states)`; exponents: complex `(dim, states)`."""

    def state_after(self, u: Tensor) -> State:
        """States `(batch, dim, states)` after `(batch, length, dim)`, which may be empty."""
        weights, exponents = self.terms()
        return State((final_state(exponents, u),), (weights, exponents.exp()))

    def step(self, u: Tensor, state: State) -> Tensor:
        """The response `(batch, kernels, dim)` at one step `(batch, dim)`."""
        (states,), (weights, decay) = state.memory, state.constants
        states.mul_(decay).add_(u.unsqueeze(-1))
        return 2 * (states.unsqueeze(1) * weights).sum(dim=-1).real
