"""Convolution kernels of state-space models: diagonal plus low rank (S4), and diagonal (S4D).

Neither ever holds a number per channel, state and step, `(dim, states, length)`: the first works through
slices of the channels (`dplr_spectrum`), the second is a product of two short tables. One state of every
conjugate pair is given, and a sum over states counts its conjugate too. Powers build up, so autocast is off.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from implementations.ops.dplr_spectrum import DPLRSpectrum, Terms


def dplr_kernel(A: Tensor, B: Tensor, C: Tensor, P: Tensor, dt: Tensor, length: int) -> Tensor:
    """`K_l = C Ā^l B̄` for the bilinear form of `diag(A) − P Pᴴ`, where C holds `C̃ = C(I − Ā^length)`.

    A, B, P: complex `(dim, states)`; C: `(channels, dim, states)`; dt: `(dim,)`. Returns real
    `(channels, dim, length)`. Gu et al. 2022 (S4), algorithm 1.
    """
    left = torch.stack([B, P], dim=1).unsqueeze(2)
    right = torch.stack([*C, P.conj()], dim=1).unsqueeze(1)
    products = (left * right).flatten(1, 2)
    terms = Terms(
        even=-2 * dt[:, None, None] * (products * A.conj().unsqueeze(1)).real,
        odd=2 * products.real,
        radius=dt.unsqueeze(1) * (A.real.square() + A.imag.square()),
        stiffness=4 / dt,
        e=4 * A.real,
    )
    spectrum: Tensor = DPLRSpectrum.apply(length, *terms)  # type: ignore[no-untyped-call]
    kernel: Tensor = torch.fft.irfft(spectrum, n=length)
    return kernel.transpose(0, 1)


def dplr_truncate(A: Tensor, C: Tensor, P: Tensor, dt: Tensor, length: int) -> Tensor:
    """`C̃ = C(I − Ā^length)`, which makes the kernel's generating function a finite sum.

    Shapes as in `dplr_kernel`. Works in float64, step by step: Ā is a diagonal plus a matrix of rank one
    (Woodbury), so that `length` products of a row with it cost less than a few of such matrices themselves.
    """
    dtype = C.dtype
    A, C, P, half = A.to(torch.cdouble), C.to(torch.cdouble), P.to(torch.cdouble), dt.double()[:, None] / 2
    resolvent = 1 / (1 - half * A)
    gain = 4 * half / (1 + 2 * half * (resolvent.real * P.abs().square()).sum(dim=1, keepdim=True))
    diagonal = (2 * resolvent - 1).unsqueeze(1)
    read = _pairs((resolvent * P).conj()).unsqueeze(1)
    write = _pairs(gain * resolvent * P.conj()).unsqueeze(1)
    row = C.transpose(0, 1).clone()
    parts = torch.view_as_real(row).flatten(2)
    for _ in range(length):
        overlap = (parts * read).sum(dim=-1, keepdim=True)
        row.mul_(diagonal)
        parts.addcmul_(overlap, write, value=-1)
    return (C - row.transpose(0, 1)).to(dtype)


def dplr_restore(A: Tensor, C: Tensor, P: Tensor, dt: Tensor, length: int) -> Tensor:
    """C from `C̃ = C(I − Ā^length)`, in the shapes of `dplr_truncate`, whose inverse it is; in float64."""
    power = torch.linalg.matrix_power(dplr_discretise(A, torch.zeros_like(A), P, dt)[0], length)
    identity = torch.eye(power.shape[-1], dtype=power.dtype, device=power.device)
    rows = _as_rows(C.transpose(0, 1).to(torch.cdouble))
    restored = _from_rows(torch.linalg.solve(identity - power, rows, left=False))
    return restored.transpose(0, 1).to(C.dtype)


def dplr_discretise(A: Tensor, B: Tensor, P: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Ā `(dim, 2·states, 2·states)` and B̄ `(dim, 2·states)` on the states' real and imaginary parts.

    The bilinear form of `diag(A) − P Pᴴ`; complex A, B, P `(dim, states)` and dt `(dim,)`. In float64.
    """
    A, B, P, dt = A.to(torch.cdouble), B.to(torch.cdouble), P.to(torch.cdouble), dt.double()
    decay, rotation = torch.diag_embed(A.real), torch.diag_embed(A.imag)
    matrix = torch.cat([torch.cat([decay, -rotation], dim=2), torch.cat([rotation, decay], dim=2)], dim=1)
    p = torch.cat([P.real, P.imag], dim=1)
    matrix = dt[:, None, None] / 2 * (matrix - 2 * p.unsqueeze(2) * p.unsqueeze(1))
    identity = torch.eye(p.shape[1], dtype=matrix.dtype, device=matrix.device)
    inputs = (dt.unsqueeze(1) * torch.cat([B.real, B.imag], dim=1)).unsqueeze(2)
    solved = torch.linalg.solve(identity - matrix, torch.cat([identity + matrix, inputs], dim=2))
    return solved[..., :-1], solved[..., -1]


def _as_rows(C: Tensor) -> Tensor:
    return torch.cat([C.real, -C.imag], dim=2)


def _from_rows(rows: Tensor) -> Tensor:
    real, negated_imaginary = rows.chunk(2, dim=2)
    return torch.complex(real, -negated_imaginary)


def diagonal_kernel(weights: Tensor, exponents: Tensor, length: int) -> Tensor:
    """`K_l = 2·Re Σ_n weights_n · exp(l·exponents_n)`.

    weights: complex `(channels, dim, states)`; exponents: `(dim, states)`, logarithms of the transition.
    Returns real `(channels, dim, length)`. Gu et al. 2022 (S4D), equation 7.
    """
    kernel: Tensor = _PowerSums.apply(weights, exponents, length)  # type: ignore[no-untyped-call]
    return kernel


class _PowerSums(Function):
    """With `l = i·stride + j` the powers are a product of two tables, and their sum one of real matrices.

    The tables, `(dim, stride, states)`, are made again in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, exponents: Tensor, length: int) -> Tensor:
        ctx.save_for_backward(weights, exponents)
        stride = math.isqrt(length - 1) + 1
        coarse, fine_conj = _powers(exponents * stride, stride), _powers(exponents.conj(), stride)
        with torch.autocast(weights.device.type, enabled=False):
            kernel = _pairs(weights.unsqueeze(2) * coarse) @ _pairs(fine_conj).mT
        return kernel.mul_(2).flatten(-2)[..., :length]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, exponents = (x.conj() for x in ctx.saved_tensors)
        length = gradient.shape[-1]
        stride = math.isqrt(length - 1) + 1
        steps = torch.arange(stride, device=gradient.device)[:, None]
        coarse, fine = _powers(exponents * stride, stride), _powers(exponents, stride)
        grid = F.pad(2 * gradient, (0, stride**2 - length)).view(*gradient.shape[:-1], stride, stride)
        with torch.autocast(gradient.device.type, enabled=False):
            scaled_gradient = _from_pairs(grid @ _pairs(fine))
            fine_gradient = _from_pairs((grid.mT @ _pairs(weights.unsqueeze(2) * coarse)).sum(dim=0))
        coarse_gradient = (scaled_gradient * weights.unsqueeze(2)).sum(dim=0)
        exponents_gradient = (coarse_gradient * coarse * stride + fine_gradient * fine) * steps
        return (scaled_gradient * coarse).sum(dim=2), exponents_gradient.sum(dim=1), None


def _powers(exponents: Tensor, count: int) -> Tensor:
    """`exp(l·exponents)` for l below count, `(dim, count, states)`: few exponentials and their products."""
    stride = math.isqrt(count - 1) + 1
    steps = torch.arange(stride, device=exponents.device)[:, None]
    exponents = exponents.unsqueeze(1)
    fine, coarse = _exp(exponents * steps), _exp(exponents * (steps * stride))
    return (coarse.unsqueeze(2) * fine.unsqueeze(1)).flatten(1, 2)[:, :count]


def _exp(x: Tensor) -> Tensor:
    """`exp(x)` of complex numbers, by real functions: torch's own takes seven times as long on a CPU."""
    size, angle = x.real.exp(), x.imag
    return torch.complex(size * angle.cos(), size * angle.sin())


def _pairs(x: Tensor) -> Tensor:
    """The parts of complex numbers side by side in the last dimension."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2)


def _from_pairs(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.view(*x.shape[:-1], -1, 2))
