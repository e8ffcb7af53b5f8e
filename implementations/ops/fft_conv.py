"""Long convolutions along time, by the fast Fourier transform."""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


@functools.lru_cache(maxsize=256)
def fft_length(minimum: int) -> int:
    """The smallest `2^a·3^b·5^c` that is at least `minimum`: a length whose transform is fast."""
    best = 1 << (minimum - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            quotient = -(-minimum // three)
            best = min(best, three << (quotient - 1).bit_length())
            three *= 3
        five *= 5
    return best


def fft_convolution(x: Tensor, kernel: Tensor, anticausal_kernel: Tensor | None = None) -> Tensor:
    """`y[t] = Σ_s kernel[s]·x[t−s] + Σ_s anticausal_kernel[s]·x[t+s]`, channel by channel, zeros outside x.

    x: `(batch, length, dim)`; kernels: `(dim, taps)`, both with lag 0. All float32 or all float64.
    Returns `(batch, length, dim)`; nothing for a sequence without steps.
    """
    if x.shape[1] == 0:
        return x
    y: Tensor = _Convolution.apply(x, kernel, anticausal_kernel)  # type: ignore[no-untyped-call]
    return y


class _Convolution(Function):
    """Real transforms in both directions: autograd's own gradient of one is a complex one, twice as large.

    The transform of x is taken again in the backward pass, not kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, anticausal_kernel: Tensor | None) -> Tensor:
        length, taps = x.shape[1], kernel.shape[1]
        size = fft_length(length + taps - 1)
        ring = F.pad(kernel, (0, size - taps))
        if anticausal_kernel is not None:
            # Lag −s of a circular convolution is lag size − s.
            ring[:, 0] += anticausal_kernel[:, 0]
            ring[:, size - taps + 1 :] += anticausal_kernel[:, 1:].flip(1)
        spectrum = torch.fft.rfft(ring)
        ctx.save_for_backward(x, spectrum)
        ctx.taps, ctx.size = taps, size
        return _from_spectrum(_to_spectrum(x, size).mul_(spectrum), size, length)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, spectrum = ctx.saved_tensors
        taps, size = ctx.taps, ctx.size
        upstream = _to_spectrum(gradient, size)
        causal = anticausal = None
        if any(ctx.needs_input_grad[1:]):
            products = _to_spectrum(x, size).conj_physical_().mul_(upstream)
            # A sum over one row would copy it.
            ring = torch.fft.irfft(products[0] if len(products) == 1 else products.sum(dim=0), n=size)
            causal = ring[:, :taps]
            anticausal = torch.cat([ring[:, :1], ring[:, size - taps + 1 :].flip(1)], dim=1)
        x_gradient = _from_spectrum(upstream.mul_(spectrum.conj()), size, x.shape[1])
        return x_gradient, causal, anticausal if ctx.needs_input_grad[2] else None


def _to_spectrum(x: Tensor, size: int) -> Tensor:
    """`(batch, length, dim)` to `(batch, dim, frequencies)`."""
    spectrum: Tensor = torch.fft.rfft(x.transpose(1, 2), n=size)
    return spectrum


def _from_spectrum(spectrum: Tensor, size: int, length: int) -> Tensor:
    """`(batch, dim, frequencies)` to `(batch, length, dim)`."""
    y: Tensor = torch.fft.irfft(spectrum, n=size)
    return y[..., :length].transpose(1, 2)
