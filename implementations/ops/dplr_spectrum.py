"""Transform of the convolution kernel of a diagonal matrix plus one of low rank (S4), slice by slice.

A slice of the channels is worked on at once, and again in the backward pass, so that no number per channel,
state and frequency is ever held. Gu et al. 2022 (S4), algorithm 1. Sums over poles cancel: autocast is off.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

SLICE_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 22}
"""Channels times states times frequencies to work on at once: to fit a core's cache, or fill a GPU."""


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


class Terms(NamedTuple):
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

    def slices(self, length: int) -> "Iterator[tuple[slice, Terms]]":
        dim, states = self.radius.shape
        step = max(1, SLICE_ELEMENTS[self.radius.device.type] // (states * (length // 2 + 1)))
        for start in range(0, dim, step):
            rows = slice(start, start + step)
            yield rows, Terms(*(x[rows] for x in self))


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
    def of(cls, terms: Terms, at: _Frequencies, scratch: _Scratch) -> "_Poles":
        shape = (*terms.radius.shape, len(at.sin))
        d, t, d_t = (scratch(name, *shape) for name in cls._fields)
        torch.mul(terms.radius.unsqueeze(2), at.cos_2, out=d)
        d.addcmul_(terms.stiffness[:, None, None], at.sin_2, value=-1)
        torch.mul(terms.e.square().unsqueeze(2), at.sin_2_cos_2, out=t)
        t.addcmul_(d, d).reciprocal_()
        return cls(d, t, torch.mul(d, t, out=d_t))


class DPLRSpectrum(Function):
    """The kernel's transform at the roots of unity, complex `(dim, channels, frequencies)`.

    Its terms' products are those of {B, P} with {C, P*}: 2(channels + 1) of them.
    """

    @staticmethod
    def forward(ctx: Any, length: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.length = length
        terms = Terms(*tensors)
        at, scratch = _Frequencies.of(length, terms.radius), _Scratch(terms.radius)
        shape = (len(terms.radius), terms.odd.shape[1] // 2 - 1, len(at.sin))
        spectrum = torch.empty(shape, dtype=at.sin.dtype.to_complex(), device=at.sin.device)
        with torch.autocast(at.sin.device.type, enabled=False):
            for rows, part in terms.slices(length):
                r = _resolvents(part, _Poles.of(part, at, scratch), at, scratch)
                spectrum[rows] = _woodbury(r, at)
        return spectrum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        terms = Terms(*ctx.saved_tensors)
        at, scratch = _Frequencies.of(ctx.length, terms.radius), _Scratch(terms.radius)
        gradients = Terms(*(torch.empty_like(x) for x in terms))
        with torch.autocast(gradient.device.type, enabled=False):
            for rows, part in terms.slices(ctx.length):
                poles = _Poles.of(part, at, scratch)
                r = _resolvents(part, poles, at, scratch)
                upstream = _woodbury_gradient(gradient[rows], r, at)
                for out, value in zip(
                    gradients, _term_gradients(upstream, part, poles, at, scratch), strict=True
                ):
                    out[rows] = value
        return None, *gradients


def _resolvents(terms: Terms, poles: _Poles, at: _Frequencies, scratch: _Scratch) -> Tensor:
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
    gradient: Tensor, terms: Terms, poles: _Poles, at: _Frequencies, scratch: _Scratch
) -> Terms:
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
    return Terms(
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
