"""The damped EMA by scans in C: `s_t = q·s_{t−1} + x_t` of every state, and `y_t = Σ weight·s_t + ω·x_t`.

A scan does not end, so it stands for a truncated kernel only where nothing is cut off. See
`implementations.kernels.cpu.ema`; the kernels are in `native/ema.c`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from implementations.kernels.cpu.native.calls import draw_seed
from implementations.kernels.cpu.native.ema import ema_backward, ema_forward, silu
from implementations.ops.sizes import expected


def is_tail_nothing(log_decay: Tensor, taps: int) -> bool:
    """Whether all that comes after so many taps is below the precision: `taps·q^taps` of the slowest decay.

    Where values are not there to be read, it is taken to be so, as at the start of a training.
    """
    if expected() is not None:
        return True
    smallest = 1e-3 * torch.finfo(log_decay.dtype).eps
    return taps * float(log_decay.max()) < math.log(smallest / taps)


class Tile(NamedTuple):
    """Tensors of a tile that the backward pass needs."""

    x: Tensor
    padding: Tensor | None
    average: Tensor | None
    """`(dim, rows, length)`, before silu; None if nothing follows the average."""
    seed: int
    """Seed of the dropout."""


class ScanKernel(NamedTuple):
    """Coefficients of the scans."""

    weight: Tensor
    """`(directions·dim, states)`."""
    decay: Tensor
    omega: Tensor
    """`(dim,)`."""

    @classmethod
    def of(cls, weight: Tensor, log_decay: Tensor, omega: Tensor) -> "ScanKernel":
        return cls(weight.contiguous(), log_decay.exp(), omega.contiguous())

    def forward(
        self, x: Tensor, padding: Tensor | None, activated: bool, dropout: float
    ) -> tuple[Tensor, Tile]:
        seed = draw_seed(dropout)
        padding = None if padding is None else padding.contiguous()
        average, mixed = ema_forward(x, padding, *self, activated, dropout, seed)
        if not activated:
            return average, Tile(x, padding, None, 0)
        return mixed, Tile(x, padding, average, seed)

    def mixed(self, tile: Tile, dropout: float) -> Tensor:
        y: Tensor = silu(tile.average, dropout, tile.seed)
        return y

    def for_backward(self) -> "ScanKernel":
        return self

    def gradients(self) -> "ScanBackward":
        return ScanBackward(self)


class ScanBackward:
    """The backward pass of a kernel."""

    def __init__(self, kernel: ScanKernel) -> None:
        self.kernel = kernel
        self.total = tuple(map(torch.zeros_like, kernel))

    def tile(self, grad: Tensor, tile: Tile, dropout: float, grad_x: Tensor, add: bool) -> None:
        of_tile = ema_backward(
            grad, tile.average, tile.x, tile.padding, *self.kernel, grad_x, add, dropout, tile.seed
        )
        for total, grad_parameter in zip(self.total, of_tile, strict=True):
            total.add_(grad_parameter)

    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        weight, log_decay, omega = self.total
        return weight, log_decay, omega
