"""Convolution kernels of state-space models: diagonal plus low rank (S4), and diagonal (S4D).

Neither ever holds a number per channel, state and step, `(dim, states, length)`: the first works through
slices of the channels, and again in the backward pass; the second is a product of two short tables.
One state of every conjugate pair is given, and a sum over states counts its conjugate too.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SLICE_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 22}
"""Channels times states times frequencies to work on at once: to fit a core's cache, or fill a GPU."""


def dplr_kernel(A: Tensor, B: Tensor, C: Tensor, P: Tensor, dt: Tensor, length: int) -> Tensor:
    """`K_l = C Ā^l B̄` for the bilinear form of `diag(A) − P Pᴴ`, where C holds `C̃ = C(I − Ā^length)`.

    A, B, P: complex `(dim, states)`; C: `(channels, dim, states)`; dt: `(dim,)`. Returns real
    `(channels, dim, length)`. Gu et al. 2022 (S4), algorithm 1.
    """
    left = torch.stack([B, P], dim=1).unsqueeze(2)
    right = torch.stack([*C, P.conj()], dim=1).unsqueeze(1)
    products = (left * right).flatten(1, 2)
    terms = _Terms(
        even=-2 * dt[:, None, None] * (products * A.conj().unsqueeze(1)).real,
        odd=2 * products.real,
        radius=dt.unsqueeze(1) * (A.real.square() + A.imag.square()),
        stiffness=4 / dt,
        e=4 * A.real,
    )
    spectrum: Tensor = _DPLRSpectrum.apply(length, *terms)  # type: ignore[no-untyped-call]
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
        with _full_precision(weights):
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
        with _full_precision(gradient):
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


def _full_precision(like: Tensor) -> torch.autocast:
    """No autocast within this context: sums over poles cancel and powers build up, so precision matters."""
    return torch.autocast(like.device.type, enabled=False)


class _Frequencies(NamedTuple):
    """Roots of unity ω up to −1, by sine and cosine of half their angle: `z = 2(1−ω)/(1+ω) = 2i·sin/cos`."""

    sin: Tensor
    cos: Tensor
    sin_2: Tensor
    cos_2: Tensor
    sin_2_cos_2: Tensor

    @classmethod
    def of(cls, length: int, like: Tensor) -> "_Frequencies":
        angle = torch.arange(length // 2 + 1, dtype=torch.float64, device=like.device) * (math.pi / length)
        sin, cos = angle.sin(), angle.cos()
        return cls(*(x.to(like.dtype) for x in (sin, cos, sin**2, cos**2, (sin * cos) ** 2)))


class _Terms(NamedTuple):
    """The sums `Σ_n dt·(v/(z − a) + v*/(z − a*))` over poles a = dt·A, for every product v, in real numbers.

    Over a common denominator such a term is `(z·odd + even)·cos²/(d − i·e·sin·cos)` with
    `d = radius·cos² − stiffness·sin²`: finite at every frequency, ω = −1 included.
    """

    even: Tensor
    """`−2·dt·Re(v·A*)`, `(dim, products, states)`."""
    odd: Tensor
    """`2·Re v`, `(dim, products, states)`."""
    radius: Tensor
    """`dt·|A|²`, `(dim, states)`."""
    stiffness: Tensor
    """`4/dt`, `(dim,)`."""
    e: Tensor
    """`4·Re A`, `(dim, states)`."""

    def slices(self, length: int) -> "Iterator[tuple[slice, _Terms]]":
        dim, states = self.radius.shape
        step = max(1, SLICE_ELEMENTS[self.radius.device.type] // (states * (length // 2 + 1)))
        for start in range(0, dim, step):
            rows = slice(start, start + step)
            yield rows, _Terms(*(x[rows] for x in self))


class _Scratch:
    """Tensors that every slice overwrites: allocating new ones costs more than filling them."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._tensors: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """The tensor of that name; the first slice, which is the largest, makes it."""
        if name not in self._tensors:
            self._tensors[name] = self._like.new_empty(shape)
        return self._tensors[name][: shape[0]]


class _Poles(NamedTuple):
    """`1/(d − i·e·sin·cos) = (d + i·e·sin·cos)·t`, which all sums share: `(dim, states, frequencies)`."""

    d: Tensor
    t: Tensor
    d_t: Tensor

    @classmethod
    def of(cls, terms: _Terms, at: _Frequencies, scratch: _Scratch) -> "_Poles":
        shape = (*terms.radius.shape, len(at.sin))
        d, t, d_t = (scratch(name, *shape) for name in cls._fields)
        torch.mul(terms.radius.unsqueeze(2), at.cos_2, out=d)
        d.addcmul_(terms.stiffness[:, None, None], at.sin_2, value=-1)
        torch.mul(terms.e.square().unsqueeze(2), at.sin_2_cos_2, out=t)
        t.addcmul_(d, d).reciprocal_()
        return cls(d, t, torch.mul(d, t, out=d_t))


class _DPLRSpectrum(Function):
    """The kernel's transform at the roots of unity, complex `(dim, channels, frequencies)`.

    Its terms' products are those of {B, P} with {C, P*}: 2(channels + 1) of them.
    """

    @staticmethod
    def forward(ctx: Any, length: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.length = length
        terms = _Terms(*tensors)
        at, scratch = _Frequencies.of(length, terms.radius), _Scratch(terms.radius)
        shape = (len(terms.radius), terms.odd.shape[1] // 2 - 1, len(at.sin))
        spectrum = torch.empty(shape, dtype=at.sin.dtype.to_complex(), device=at.sin.device)
        with _full_precision(spectrum):
            for rows, part in terms.slices(length):
                r = _resolvents(part, _Poles.of(part, at, scratch), at, scratch)
                spectrum[rows] = _woodbury(r, at)
        return spectrum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        terms = _Terms(*ctx.saved_tensors)
        at, scratch = _Frequencies.of(ctx.length, terms.radius), _Scratch(terms.radius)
        gradients = _Terms(*(torch.empty_like(x) for x in terms))
        with _full_precision(gradient):
            for rows, part in terms.slices(ctx.length):
                poles = _Poles.of(part, at, scratch)
                r = _resolvents(part, poles, at, scratch)
                upstream = _woodbury_gradient(gradient[rows], r, at)
                for out, value in zip(
                    gradients, _term_gradients(upstream, part, poles, at, scratch), strict=True
                ):
                    out[rows] = value
        return None, *gradients


def _resolvents(terms: _Terms, poles: _Poles, at: _Frequencies, scratch: _Scratch) -> Tensor:
    """The terms' sums over cos, complex `(dim, 2, channels + 1, frequencies)`."""
    numerators = torch.cat([terms.even, terms.odd], dim=1)
    shape = (*numerators.shape[:2], len(at.sin))
    by_d, by_e = scratch("by_d", *shape), scratch("by_e", *shape)
    even_d, odd_d = torch.bmm(numerators, poles.d_t, out=by_d).chunk(2, dim=1)
    even_e, odd_e = torch.bmm(numerators * terms.e.unsqueeze(1), poles.t, out=by_e).chunk(2, dim=1)
    real = even_d.addcmul_(odd_e, at.sin_2, value=-2).mul_(at.cos)
    imaginary = odd_d.mul_(2).addcmul_(even_e, at.cos_2).mul_(at.sin)
    sums = torch.complex(real, imaginary)
    return sums.view(len(sums), 2, -1, len(at.sin))


def _term_gradients(
    gradient: Tensor, terms: _Terms, poles: _Poles, at: _Frequencies, scratch: _Scratch
) -> _Terms:
    """The terms' gradients from that of the resolvents."""
    d, t, d_t = poles
    numerators, e = torch.cat([terms.even, terms.odd], dim=1), terms.e.unsqueeze(1)
    by_d, by_e = (scratch(name, *numerators.shape[:2], len(at.sin)) for name in ("by_d", "by_e"))
    (even_d, odd_d), (even_e, odd_e) = by_d.chunk(2, dim=1), by_e.chunk(2, dim=1)
    gradient = gradient.flatten(1, 2)
    torch.mul(gradient.real, at.cos, out=even_d)
    torch.mul(gradient.imag, 2 * at.sin, out=odd_d)
    torch.mul(odd_d, at.cos_2 / 2, out=even_e)
    torch.mul(even_d, -2 * at.sin_2, out=odd_e)
    from_d, from_e = by_d @ d_t.mT, by_e @ t.mT
    d_t_gradient = torch.bmm(numerators.mT, by_d, out=scratch("d_t_gradient", *d.shape))
    t_gradient = torch.bmm((numerators * e).mT, by_e, out=scratch("t_gradient", *d.shape))
    # t = 1/(d² + u) for u = (e·sin·cos)²: d acts through t, 2d times as u does, and by itself on d·t.
    through_t = t_gradient.mul_(t).addcmul_(d_t_gradient, d_t).mul_(t)
    d_gradient = d_t_gradient.mul_(t).addcmul_(d, through_t, value=-2)
    even, odd = torch.addcmul(from_d, from_e, e).chunk(2, dim=1)
    return _Terms(
        even=even,
        odd=odd,
        radius=d_gradient @ at.cos_2,
        stiffness=-(d_gradient @ at.sin_2).sum(dim=1),
        e=(from_e * numerators).sum(dim=1) - 2 * terms.e * (through_t @ at.sin_2_cos_2),
    )


def _woodbury(r: Tensor, at: _Frequencies) -> Tensor:
    """`2/(1+ω)·(r_BC − r_BP·r_PC/(1 + r_PP))`, where r holds the resolvents over cos."""
    r_bc, r_bp, r_pc, r_pp = r[:, 0, :-1], r[:, 0, -1:], r[:, 1, :-1], r[:, 1, -1:]
    correction = r_bp * (at.cos / (1 + at.cos * r_pp))
    return (r_bc - correction * r_pc).mul_(torch.complex(at.cos, at.sin))


def _woodbury_gradient(gradient: Tensor, r: Tensor, at: _Frequencies) -> Tensor:
    """The gradient of the resolvents from that of `_woodbury`."""
    r_bp, r_pc, r_pp = (x.conj() for x in (r[:, 0, -1:], r[:, 1, :-1], r[:, 1, -1:]))
    factor = at.cos / (1 + at.cos * r_pp)
    direct = gradient * torch.complex(at.cos, -at.sin)
    shared = (r_pc * direct).sum(dim=1, keepdim=True) * factor
    out = torch.empty_like(r)
    out[:, 0, :-1] = direct
    out[:, 0, -1:] = -shared
    out[:, 1, :-1] = direct * (-r_bp * factor)
    out[:, 1, -1:] = shared * (r_bp * factor)
    return out
