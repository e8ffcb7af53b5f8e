"""The damped EMA, fused with what follows it, silu and dropout: by scans in C, or by Fourier transforms.

The plain form is `implementations.ops.ema.DampedEMA`, which also gives the coefficients; `log_decay` keeps
its digits where the decay is near 1. Everything here runs on tiles of states `(dim, rows, length)`, time
innermost.
"""

from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from implementations.kernels.cpu.ema_circle import CircularKernel
from implementations.kernels.cpu.ema_scan import ScanKernel, is_tail_nothing
from implementations.kernels.cpu.native.calls import usable
from implementations.kernels.cpu.saved import load, save
from implementations.kernels.cpu.tiles import places, time_innermost, time_outermost
from implementations.ops.ema import DampedEMA

MOST_STATES = 1024
"""States per channel whose coefficients find room on the stack of a thread in C."""


class Kernel(Protocol):
    """An EMA of rows of some length. A tile is what it keeps for the backward pass."""

    def forward(
        self, x: Tensor, padding: Tensor | None, activated: bool, dropout: float
    ) -> tuple[Tensor, Any]:
        """The average of x `(dim, rows, length)`, or dropout of silu of it, contiguous; and the tile.

        padding: `(rows, length)` boolean, steps that add nothing to others but keep their own `ω·x`.
        """

    def mixed(self, tile: Any, dropout: float) -> Tensor:
        """Dropout of silu of the average again, `(dim, rows, length)`."""

    def for_backward(self) -> Self:
        """The kernel for the backward pass; it can't be used in a forward pass afterwards."""

    def gradients(self) -> "Gradients":
        """The backward pass over the tiles of a batch, of a kernel for it."""


class Gradients(Protocol):
    """A backward pass, which sums up the gradients of the coefficients."""

    def tile(self, grad: Tensor, tile: Any, dropout: float, grad_x: Tensor, add: bool) -> None:
        """Write, or add, to grad_x the gradient of x, from that of a tile's result, which is lost."""

    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of weight, log_decay and omega, after those of all tiles."""


def kernel_of(x: Tensor, weight: Tensor, log_decay: Tensor, omega: Tensor, truncation: int | None) -> Kernel:
    """The faster form of an EMA of states x `(…, length)`.

    weight, log_decay `(directions·dim, states)`, omega `(dim,)`; truncation: longest kernel, in time steps.
    """
    taps = x.shape[-1] if truncation is None else min(truncation, x.shape[-1])
    fit = weight.shape[1] <= MOST_STATES and usable(x, weight, log_decay, omega)
    if fit and (taps == x.shape[-1] or is_tail_nothing(log_decay, taps)):
        return ScanKernel.of(weight, log_decay, omega)
    return CircularKernel.of(weight, log_decay, omega, x.shape[-1], taps)


def fused_ema(
    ema: DampedEMA,
    x: Tensor,
    padding_mask: Tensor | None = None,
    *,
    activated: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """`ema(x, padding_mask)` `(batch, length, dim)`, or if activated dropout of silu of it.

    Fastest on an x with time innermost in memory, as the result has it.
    """
    with torch.autocast(x.device.type, enabled=False):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        y: Tensor = _DampedEMA.apply(  # type: ignore[no-untyped-call]
            time_innermost(wide),
            *ema.coefficients(wide.dtype),
            ema.omega.to(wide.dtype),
            padding_mask,
            ema.truncation,
            activated,
            dropout,
        )
        return time_outermost(y).to(x.dtype)


class _DampedEMA(torch.autograd.Function):
    """Average of states, tile by tile, each while it is in the cache."""

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
        kernel = kernel_of(x, weight, log_decay, omega, truncation)
        out, tiles = torch.empty_like(x), []
        for place in places(x):
            padding = None if padding_mask is None else padding_mask[place.batch]
            y, tile = kernel.forward(place.of(x), padding, activated, dropout)
            place.of(out).copy_(y)
            tiles.append(tile)
        save(ctx, (kernel.for_backward(), tiles))
        ctx.dropout = dropout
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kernel, tiles = load(ctx)
        gradients, grad_x = kernel.gradients(), grads[0].new_empty(grads[0].shape)
        for tile, place in zip(tiles, places(grads[0]), strict=True):
            # A copy: what autograd gives may be somebody else's too.
            grad = place.of(grads[0]).clone(memory_format=torch.contiguous_format)
            gradients.tile(grad, tile, ctx.dropout, place.of(grad_x), add=False)
        return grad_x, *gradients.parameters(), None, None, None, None
