"""The damped EMA, fused: both directions and `ω·x` are one circular convolution.

The plain form is `implementations.ops.ema.DampedEMA`, which also gives the coefficients: the kernel of a
channel is `k[t] = Σ_n weight_n·exp(t·log_decay_n)`, and `log_decay` keeps its digits where the decay is
near 1. Everything here runs on rows `(dim, length)`, one sequence with time innermost.
"""

import functools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from implementations.kernels.cpu.dropout import draw, drop_
from implementations.kernels.cpu.saved import load, save
from implementations.ops.ema import DampedEMA
from implementations.ops.fft_conv import fft_length
from implementations.ops.sizes import SizeUnknown, expected


class PowerTables(NamedTuple):
    """The powers of every decay, as products: `q^(a·c + b) = coarse[a]·fine[b]`, with c about √taps.

    Two tables of √taps exponentials a state in the place of one of `taps`; the sum over the states is a
    matrix product of the two.
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
        # exp2, because torch's exp takes a path a hundred times slower where its result underflows.
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


class Row(NamedTuple):
    """One row's part of what the backward pass needs."""

    conjugate: Tensor
    """Of the row's spectrum."""
    padded: Tensor | None
    """`(padded steps,)` int64."""
    hidden: Tensor | None
    """`(dim, padded steps)`: the input there."""


class CircularKernel(NamedTuple):
    """The taps of an EMA on a circle long enough that nothing wraps onto the sequence, in frequency space.

    Tap 0 holds the causal tap, the anti-causal one and ω; the anti-causal taps stand at negative times,
    that is at the end of the circle.
    """

    spectrum: Tensor
    """In the forward pass; the backward pass wants its conjugate here."""
    tables: PowerTables
    weight: Tensor
    omega: Tensor
    length: int
    size: int
    """Steps of the circle."""

    @classmethod
    def of(
        cls, weight: Tensor, log_decay: Tensor, omega: Tensor, length: int, truncation: int | None
    ) -> "CircularKernel":
        """weight, log_decay `(directions·dim, states)`, omega `(dim,)`; for rows of that length."""
        taps = length if truncation is None else min(truncation, length)
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
        return cls(torch.fft.rfft(circle), tables, weight, omega, length, size)

    def circle(self) -> tuple[Tensor, Tensor]:
        """`(dim, size)`, zero behind the row, and the view `(dim, length)` of it to write a row to."""
        circle = self.omega.new_empty(len(self.omega), self.size)
        circle[:, self.length :].zero_()
        return circle, circle[:, : self.length]

    def forward(self, x: Tensor, padded: Tensor | None = None) -> tuple[Tensor, Row]:
        """The average of x `(dim, length)`, and what the backward pass needs.

        padded: indices of padded steps, which add nothing to others but keep their own `ω·x`.
        """
        circle, row = self.circle()
        row.copy_(x)
        hidden = None
        if padded is not None:
            hidden = x.index_select(1, padded)
            row.index_fill_(1, padded, 0.0)
        spectrum = torch.fft.rfft(circle)
        average = torch.fft.irfft(spectrum * self.spectrum, n=self.size)[:, : self.length]
        if padded is not None and hidden is not None:
            average.index_add_(1, padded, hidden * self.omega.unsqueeze(-1))
        return average, Row(spectrum.conj_physical_(), padded, hidden)

    def for_backward(self) -> "CircularKernel":
        """The kernel for the backward pass, after which it serves no forward pass any more."""
        return self._replace(spectrum=self.spectrum.conj_physical_())


class KernelBackward:
    """The backward pass over the rows of a batch, of a kernel for it."""

    def __init__(self, kernel: CircularKernel) -> None:
        self.kernel = kernel
        self.grad_spectrum: Tensor | None = None
        self.grad_omega = torch.zeros_like(kernel.omega)

    def row(self, circle: Tensor, row: Row) -> Tensor:
        """The gradient of x `(dim, length)` from that of the average, on a circle of the kernel."""
        kernel = self.kernel
        spectrum = torch.fft.rfft(circle)
        if self.grad_spectrum is None:
            self.grad_spectrum = spectrum * row.conjugate
        else:
            self.grad_spectrum.addcmul_(spectrum, row.conjugate)
        grad_x: Tensor = torch.fft.irfft(spectrum.mul_(kernel.spectrum), n=kernel.size)[:, : kernel.length]
        if row.padded is not None and row.hidden is not None:
            hidden = circle.index_select(1, row.padded)
            self.grad_omega += (hidden * row.hidden).sum(dim=1)
            grad_x.index_copy_(1, row.padded, hidden * kernel.omega.unsqueeze(-1))
        return grad_x

    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of weight, log_decay and omega, after those of all rows."""
        assert self.grad_spectrum is not None
        kernel, taps = self.kernel, self.kernel.tables.taps
        circle = torch.fft.irfft(self.grad_spectrum, n=kernel.size)
        dim = len(kernel.omega)
        grad = kernel.tables.grid()
        grad[:dim, :taps] = circle[:, :taps]
        if len(grad) > dim:
            grad[dim:, 0] = circle[:, 0]
            grad[dim:, 1:taps] = circle[:, kernel.size - taps + 1 :].flip(-1)
        grad_weight, grad_log_decay = kernel.tables.backward(grad, kernel.weight)
        return grad_weight, grad_log_decay, circle[:, 0] + self.grad_omega


def padded_steps(padding_mask: Tensor | None, batch: int) -> list[Tensor | None]:
    """For each row of a mask `(batch, length)` the indices of its padded steps, None where it has none."""
    if padding_mask is None:
        return [None] * batch
    if expected() is not None:
        raise SizeUnknown("how many steps of a row are padding depends on values")
    steps = (row.nonzero().squeeze(-1) for row in padding_mask)
    return [padded if padded.numel() else None for padded in steps]


def fused_ema(
    ema: DampedEMA,
    x: Tensor,
    padding_mask: Tensor | None = None,
    *,
    activated: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """`ema(x, padding_mask)` `(batch, length, dim)`, or where activated dropout of silu of it.

    Fastest on an x with time innermost in memory, as the result has it.
    """
    with torch.autocast(x.device.type, enabled=False):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        y: Tensor = _DampedEMA.apply(  # type: ignore[no-untyped-call]
            wide.transpose(1, 2).contiguous(),
            *ema.coefficients(wide.dtype),
            ema.omega.to(wide.dtype),
            padding_mask,
            ema.truncation,
            activated,
            dropout,
        )
        return y.transpose(1, 2).to(x.dtype)


class _DampedEMA(torch.autograd.Function):
    """The average of `(batch, dim, length)`, row by row, each while it lies in the cache."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        log_decay: Tensor,
        omega: Tensor,
        padding_mask: Tensor | None,
        truncation: int | None,
        activated: bool,
        dropout: float,
    ) -> Tensor:
        kernel = CircularKernel.of(weight, log_decay, omega, x.shape[-1], truncation)
        out, rows, averages, dropped = torch.empty_like(x), [], [], []
        for row, padded, out_row in zip(x, padded_steps(padding_mask, len(x)), out, strict=True):
            average, saved = kernel.forward(row, padded)
            if activated:
                averages.append(average)
                dropped.append(draw(average.numel(), dropout))
                average = drop_(F.silu(average), dropped[-1], dropout)
            out_row.copy_(average)
            rows.append(saved)
        save(ctx, (kernel.for_backward(), rows, averages, dropped))
        ctx.dropout = dropout
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kernel, rows, averages, dropped = load(ctx)
        backward, grad_x = KernelBackward(kernel), torch.empty_like(grads[0])
        for row, grad in enumerate(grads[0].contiguous()):
            circle, inside = kernel.circle()
            if averages:
                grad = drop_(grad.clone(), dropped[row], ctx.dropout) if dropped[row] is not None else grad
                torch.ops.aten.silu_backward.grad_input(grad, averages[row], grad_input=inside)
            else:
                inside.copy_(grad)
            grad_x[row] = backward.row(circle, rows[row])
        return grad_x, *backward.parameters(), None, None, None, None
