"""The damped EMA by Fourier transforms: both directions and `ω·x` are one circular convolution.

The kernel of a channel is `k[t] = Σ_n weight_n·exp(t·log_decay_n)`. See `implementations.kernels.cpu.ema`.
"""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from implementations.kernels.cpu.dropout import copy, draw, drop_
from implementations.ops.fft_conv import fft_length
from implementations.ops.sizes import SizeUnknown, expected


class PowerTables(NamedTuple):
    """The powers of every decay, as products: `q^(a·c + b) = coarse[a]·fine[b]`, with c about √taps.

    Two tables of √taps exponentials per state replace one of `taps`; the sum over the states is a matrix
    product of the two.
    """

    coarse: Tensor
    """`(kernels, states, rows)`: `exp(log_decay·a·c)`."""
    fine: Tensor
    """`(kernels, states, c)`: `exp(log_decay·b)`."""
    taps: int

    @classmethod
    def of(cls, log_decay: Tensor, taps: int) -> "PowerTables":
        """log_decay `(kernels, states)`; powers 0 … taps − 1."""
        columns = math.isqrt(taps - 1) + 1
        rows = -(-taps // columns)
        # exp2, because torch's exp takes a path a hundred times slower if its result underflows.
        binary = (log_decay / math.log(2.0)).unsqueeze(-1)
        coarse = (binary * _steps(rows, columns, binary.dtype, binary.device)).exp2_()
        return cls(coarse, (binary * _steps(columns, 1, binary.dtype, binary.device)).exp2_(), taps)

    def kernel(self, weight: Tensor) -> Tensor:
        """`(kernels, taps)`: `Σ_n weight_n·q_n^t`."""
        scaled = weight.unsqueeze(-1) * self.coarse
        return torch.bmm(scaled.transpose(1, 2), self.fine).flatten(1)[:, : self.taps]

    def grid(self) -> Tensor:
        """Memory for the kernel's gradient `(kernels, taps)`, with zeros behind to fill the last row."""
        grid = self.fine.new_empty(len(self.fine), self.coarse.shape[-1] * self.fine.shape[-1])
        grid[:, self.taps :].zero_()
        return grid

    def backward(self, grid: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of weight and log_decay, `(kernels, states)` each, from that of the kernel in a grid."""
        rows, columns = self.coarse.shape[-1], self.fine.shape[-1]
        grad = grid.view(-1, rows, columns)
        by_row = torch.bmm(self.fine, grad.transpose(1, 2)).mul_(self.coarse)
        by_column = torch.bmm(self.coarse, grad).mul_(self.fine)
        dtype, device = weight.dtype, weight.device
        lag = by_row @ _steps(rows, columns, dtype, device) + by_column @ _steps(columns, 1, dtype, device)
        return by_row.sum(dim=-1), lag.mul_(weight)


@functools.lru_cache(maxsize=16)
def _steps(count: int, step: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`(count,)`: 0, step, 2·step, …; not to be written to."""
    return torch.arange(0, count * step, step, dtype=dtype, device=device)


class Tile(NamedTuple):
    """Tensors of a tile that the backward pass needs."""

    conjugate: Tensor
    """Conjugate of the rows' spectra."""
    padded: Tensor | None
    """`(padded steps,)` int64: in the rows one after another."""
    hidden: Tensor | None
    """`(dim, padded steps)`: the input at these steps."""
    average: Tensor | None
    """`(dim, rows, length)`, before silu; None if nothing follows the average."""
    dropped: Tensor | None
    """Flat indices of dropped elements."""


class CircularKernel(NamedTuple):
    """The taps of an EMA on a circle long enough that nothing wraps onto the sequence, in frequency space.

    Tap 0 holds the causal tap, the anti-causal one and ω; the anti-causal taps are at negative times, that is
    at the end of the circle.
    """

    spectrum: Tensor
    """`(dim, 1, frequencies)` in the forward pass; the backward pass wants its conjugate here."""
    tables: PowerTables
    weight: Tensor
    omega: Tensor
    length: int
    size: int
    """Steps of the circle."""

    @classmethod
    def of(cls, weight: Tensor, log_decay: Tensor, omega: Tensor, length: int, taps: int) -> "CircularKernel":
        """weight, log_decay `(directions·dim, states)`, omega `(dim,)`; for rows of that length."""
        size = fft_length(length + taps - 1)
        tables = PowerTables.of(log_decay, taps)
        kernel, dim = tables.kernel(weight), len(omega)
        both = len(kernel) > dim
        circle = kernel.new_empty(dim, size)
        circle[:, :taps] = kernel[:dim]
        circle[:, taps : size - taps + 1 if both else size].zero_()
        circle[:, 0] += omega
        if both:
            circle[:, 0] += kernel[dim:, 0]
            circle[:, size - taps + 1 :] = kernel[dim:, 1:].flip(-1)
        return cls(torch.fft.rfft(circle).unsqueeze(1), tables, weight, omega, length, size)

    def circle(self, rows: int) -> tuple[Tensor, Tensor]:
        """`(dim, rows, size)`, zero behind each row, and the view `(dim, rows, length)` to write rows to."""
        circle = self.omega.new_empty(len(self.omega), rows, self.size)
        circle[..., self.length :].zero_()
        return circle, circle[..., : self.length]

    def on_circle(self, steps: Tensor) -> Tensor:
        """Positions on circles one after another, from positions in rows one after another."""
        return steps + steps // self.length * (self.size - self.length)

    def forward(
        self, x: Tensor, padding: Tensor | None, activated: bool, dropout: float
    ) -> tuple[Tensor, Tile]:
        padded = padded_steps(padding)
        circle, inside = self.circle(x.shape[1])
        inside.copy_(x)
        hidden = None
        if padded is not None:
            hidden = x.flatten(1).index_select(1, padded)
            circle.flatten(1).index_fill_(1, self.on_circle(padded), 0.0)
        spectrum = torch.fft.rfft(circle)
        average = torch.fft.irfft(spectrum * self.spectrum, n=self.size)[..., : self.length]
        if padded is not None and hidden is not None:
            flat = average.flatten(1).index_add_(1, padded, hidden * self.omega.unsqueeze(-1))
            average = flat.view(x.shape)
        conjugate = spectrum.conj_physical_()
        if not activated:
            return average, Tile(conjugate, padded, hidden, None, None)
        tile = Tile(conjugate, padded, hidden, average, draw(average.numel(), dropout))
        return self.mixed(tile, dropout), tile

    def mixed(self, tile: Tile, dropout: float) -> Tensor:
        assert tile.average is not None
        return drop_(F.silu(tile.average), tile.dropped, dropout)

    def for_backward(self) -> "CircularKernel":
        return self._replace(spectrum=self.spectrum.conj_physical_())

    def gradients(self) -> "KernelBackward":
        return KernelBackward(self)


class KernelBackward:
    """The backward pass of a kernel for it."""

    def __init__(self, kernel: CircularKernel) -> None:
        self.kernel = kernel
        self.grad_spectrum: Tensor | None = None
        self.grad_omega = torch.zeros_like(kernel.omega)

    def tile(self, grad: Tensor, tile: Tile, dropout: float, grad_x: Tensor, add: bool) -> None:
        circle, inside = self.kernel.circle(grad.shape[1])
        if tile.average is None:
            inside.copy_(grad)
        else:
            grad = grad if tile.dropped is None else drop_(copy(grad), tile.dropped, dropout)
            torch.ops.aten.silu_backward.grad_input(grad, tile.average, grad_input=inside)
        of_tile = self._of_average(circle, tile)
        if add:
            grad_x.add_(of_tile)
        else:
            grad_x.copy_(of_tile)

    def _of_average(self, circle: Tensor, tile: Tile) -> Tensor:
        """The gradient of x `(dim, rows, length)` from that of the average, on circles of the kernel."""
        kernel = self.kernel
        spectrum = torch.fft.rfft(circle)
        if circle.shape[1] == 1 and self.grad_spectrum is not None:
            self.grad_spectrum.addcmul_(spectrum, tile.conjugate)
        else:
            of_tile = spectrum * tile.conjugate
            if circle.shape[1] > 1:
                of_tile = of_tile.sum(dim=1, keepdim=True)
            self.grad_spectrum = of_tile if self.grad_spectrum is None else self.grad_spectrum.add_(of_tile)
        grad_x: Tensor = torch.fft.irfft(spectrum.mul_(kernel.spectrum), n=kernel.size)[..., : kernel.length]
        if tile.padded is not None and tile.hidden is not None:
            hidden = circle.flatten(1).index_select(1, kernel.on_circle(tile.padded))
            self.grad_omega += (hidden * tile.hidden).sum(dim=1)
            flat = grad_x.flatten(1).index_copy_(1, tile.padded, hidden * kernel.omega.unsqueeze(-1))
            grad_x = flat.view(grad_x.shape)
        return grad_x

    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        assert self.grad_spectrum is not None
        kernel, taps = self.kernel, self.kernel.tables.taps
        circle = torch.fft.irfft(self.grad_spectrum, n=kernel.size).squeeze(1)
        dim = len(kernel.omega)
        grad = kernel.tables.grid()
        grad[:dim, :taps] = circle[:, :taps]
        if len(grad) > dim:
            grad[dim:, 0] = circle[:, 0]
            grad[dim:, 1:taps] = circle[:, kernel.size - taps + 1 :].flip(-1)
        grad_weight, grad_log_decay = kernel.tables.backward(grad, kernel.weight)
        return grad_weight, grad_log_decay, circle[:, 0] + self.grad_omega


def padded_steps(padding: Tensor | None) -> Tensor | None:
    """Indices of padded steps of rows `(rows, length)`, one after another; None without any."""
    if padding is None:
        return None
    if expected() is not None:
        raise SizeUnknown("how many steps of a row are padding depends on values")
    padded = padding.flatten().nonzero().squeeze(-1)
    return padded if padded.numel() else None
