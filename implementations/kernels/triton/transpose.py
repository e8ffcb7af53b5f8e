"""Tensors `(rows, length, dim)` in rows of channels `(dim, rows, time)` and back; time is of whole chunks."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implementations.kernels.triton.chunks import Average, Chunks
from implementations.kernels.triton.launch import ACCUMULATORS, accumulator, blocks, launch
from implementations.kernels.triton.transpose_kernels import (
    from_channels_kernel,
    gradient_to_channels_kernel,
    to_channels_kernel,
)
from implementations.kernels.triton.work import Work

STEPS, CHANNELS = 64, 32
"""Sizes of a tile."""


@dataclass(frozen=True)
class EmaInput:
    """Input of the average: states `(rows, length, dim)`, normed on the way in."""

    x: Tensor
    mean: Tensor | None = None
    """Mean `(rows·length,)` of the norm; with rstd, and gain and shift `(dim,)`; None for no norm."""
    rstd: Tensor | None = None
    gain: Tensor | None = None
    shift: Tensor | None = None

    def to_channels(self, chunks: Chunks) -> Tensor:
        """Normed, in the precision of x."""
        out = _in_channels(self.x, chunks)
        optional = (self.mean, self.rstd, self.gain, self.shift)
        launch(
            to_channels_kernel,
            _grid(self.x, chunks),
            self.x,
            *(self.x if tensor is None else tensor for tensor in optional),
            out,
            *_sizes(self.x, out),
            NORMED=self.mean is not None,
            **_tile(self.x),
            work=lambda: Work(tuple(t for t in (self.x, self.mean, self.rstd, out) if t is not None)),
        )
        return out


def gradient_to_channels(
    grad: Tensor, average: Tensor, seed: Tensor, dropout: float, chunks: Chunks
) -> Tensor:
    """The gradient of the average, in channels, from that of `dropout(silu(average))`."""
    out = _in_channels(grad, chunks)
    launch(
        gradient_to_channels_kernel,
        _grid(grad, chunks),
        grad,
        average,
        seed,
        out,
        *_sizes(grad, out),
        DROPOUT=dropout,
        **_tile(grad),
        work=lambda: Work((grad, average, out)),
    )
    return out


def from_channels(
    turned: Tensor, like: Tensor, seed: Tensor, average: Average, chunks: Chunks
) -> tuple[Tensor, Tensor]:
    """The result, with silu and dropout if the average is activated, and the average itself."""
    alone = torch.empty_like(like)
    out = torch.empty_like(like) if average.activated else alone
    launch(
        from_channels_kernel,
        _grid(like, chunks),
        turned,
        alone,
        out,
        seed,
        *_sizes(like, turned),
        ACTIVATED=average.activated,
        DROPOUT=average.dropout,
        **_tile(like),
        work=lambda: Work((turned, alone, out) if average.activated else (turned, out)),
    )
    return out, alone


def _in_channels(x: Tensor, chunks: Chunks) -> Tensor:
    return x.new_empty(x.shape[2], x.shape[0], chunks.count * chunks.steps)


def _grid(x: Tensor, chunks: Chunks) -> tuple[int, int]:
    return x.shape[0] * blocks(chunks.count * chunks.steps, STEPS), blocks(x.shape[2], CHANNELS)


def _sizes(x: Tensor, turned: Tensor) -> tuple[int, int, int]:
    return x.shape[1], x.shape[2], turned.shape[2]


def _tile(x: Tensor) -> dict[str, Any]:
    return {"ROWS": STEPS, "CHANNELS": CHANNELS, "ACC": ACCUMULATORS[accumulator(x)]}
