"""Long convolutions along time, by the fast Fourier transform."""

import torch
from torch import Tensor
from torch.nn import functional as F


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
    Returns `(batch, length, dim)`.
    """
    length, taps = x.shape[1], kernel.shape[1]
    size = fft_length(length + taps - 1)
    spectrum = torch.fft.rfft(kernel, n=size)
    if anticausal_kernel is not None:
        # The conjugate spectrum is that of the kernel run backwards in time.
        spectrum = spectrum + torch.fft.rfft(anticausal_kernel, n=size).conj()
    channels_first = F.pad(x.transpose(1, 2), (0, size - length))
    y: Tensor = torch.fft.irfft(torch.fft.rfft(channels_first) * spectrum, n=size)
    return y[..., :length].transpose(1, 2)
