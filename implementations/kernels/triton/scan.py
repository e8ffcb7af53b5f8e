"""The damped EMA's scan: its division into chunks, and its input."""

from dataclasses import dataclass

from torch import Tensor

from implementations.kernels.triton.coefficients import Coefficients
from implementations.kernels.triton.launch import blocks

CHANNELS = 32
"""Channels per program: one warp, one thread per channel."""
CHUNK = 128
"""Time steps of a chunk, in sequences of up to MOST_CHUNKS of them."""
MOST_CHUNKS = 64
"""A chunk looks back at all chunks before it, so longer sequences have longer chunks, not more of them."""


@dataclass(frozen=True)
class Scan:
    """Division of a sequence into chunks, and the operations after the average."""

    bidirectional: bool
    taps: int
    """Time steps that an average reaches back."""
    activated: bool = False
    """Whether silu and dropout follow."""
    dropout: float = 0.0
    chunk: int | None = None
    """Time steps of a chunk, None for the usual."""

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def steps(self, length: int) -> int:
        """Time steps of a chunk."""
        return min(length, self.chunk or max(CHUNK, blocks(length, MOST_CHUNKS)))

    def flops(self, x: Tensor, by: Coefficients, each: int) -> int:
        """FLOPs of a pass over x, with so many for each step, channel and state."""
        return self.directions * x.numel() * by.weight.shape[1] * each

    def reach(self, length: int) -> tuple[int, int]:
        """Whole chunks that a chunk looks back, and steps of the one before them."""
        if self.taps >= length:
            return blocks(length, self.steps(length)), 0
        return divmod(self.taps, self.steps(length))


@dataclass(frozen=True)
class ScanInput:
    """Input of the scan: states `(rows, length, dim)`, normed on the way in; padded steps are zeros."""

    x: Tensor
    mean: Tensor | None = None
    """Mean `(rows·length,)` of the norm; with rstd, and gain and shift `(dim,)`; None for no norm."""
    rstd: Tensor | None = None
    gain: Tensor | None = None
    shift: Tensor | None = None
    padding: Tensor | None = None
    """`(rows, length)` boolean."""

    @property
    def pointers(self) -> tuple[Tensor, ...]:
        """Tensors in the order of the kernels' arguments; x replaces those that are None."""
        optional = (self.mean, self.rstd, self.gain, self.shift, self.padding)
        return self.x, *(self.x if tensor is None else tensor for tensor in optional)

    def moves(self, passes: int) -> tuple[Tensor, ...]:
        """Tensors as long as the sequence, as often as several passes go through them."""
        return tuple(t for t in (self.x, self.mean, self.rstd, self.padding) if t is not None) * passes

    @property
    def flags(self) -> dict[str, bool]:
        return {"NORMED": self.mean is not None, "PADDED": self.padding is not None}
