"""The damped EMA in matrix form: its division of a row into chunks, and its options."""

from dataclasses import dataclass
from typing import Any

from implementations.kernels.triton.launch import blocks, power_of_two

CHUNK = 64
"""Time steps of a chunk, in rows of up to MOST_CHUNKS of them, and of a block of a longer chunk."""
MOST_CHUNKS = 256
"""One program holds the states of a row's chunks, so longer rows have longer chunks, not more of them."""


@dataclass(frozen=True)
class Average:
    """A damped EMA, and the operations after it."""

    bidirectional: bool
    truncation: int | None
    """Time steps that the average reaches back, None for the whole row."""
    activated: bool = False
    """Whether silu and dropout follow."""
    dropout: float = 0.0
    chunk: int | None = None
    """Time steps of a chunk, a power of two of at least 16; None for the usual."""


@dataclass(frozen=True)
class Chunks:
    """Chunks of rows of one length, and the blocks of taps between them.

    Blocks are Toeplitz matrices. Number 0 joins a chunk with itself, in both directions. The others, if the
    average is truncated, join chunks that are partly in reach: `edge` chunks apart and, if it has two, one
    more, in each direction. The `lookback` chunks between are wholly in reach, and join by their states.
    """

    length: int
    taps: int
    directions: int
    steps: int
    """Time steps of a chunk."""

    @classmethod
    def of(cls, average: Average, length: int) -> "Chunks":
        taps = min(average.truncation or length, length)
        steps = average.chunk or max(CHUNK, power_of_two(blocks(length, MOST_CHUNKS)))
        return cls(length, taps, 2 if average.bidirectional else 1, steps)

    @property
    def count(self) -> int:
        """Chunks of a row."""
        return blocks(self.length, self.steps)

    @property
    def block(self) -> int:
        """Time steps of a chunk that a program computes."""
        return min(self.steps, CHUNK)

    @property
    def parts(self) -> int:
        """Such blocks of a chunk."""
        return self.steps // self.block

    @property
    def tile(self) -> int:
        return power_of_two(self.count, least=16)

    @property
    def summed(self) -> int:
        """Chunks that the sums for taps go through, 32 at a time."""
        rows = min(self.tile, 32)
        return blocks(self.count, rows) * rows

    @property
    def slice(self) -> int:
        """Time steps of a block that one product sums over: registers ask for few in a large tile."""
        return min(self.block, 32 if self.tile <= 128 else 16)

    @property
    def truncated(self) -> bool:
        return self.taps < self.length

    @property
    def edge(self) -> int:
        return max(1, self.taps // self.steps)

    @property
    def edges(self) -> int:
        if not self.truncated:
            return 0
        return 2 if self.taps > self.steps and self.taps % self.steps else 1

    @property
    def lookback(self) -> int:
        return self.edge - 1 if self.truncated else self.tile

    @property
    def matrices(self) -> int:
        """Toeplitz matrices per channel."""
        return 1 + self.edges * self.directions

    @property
    def options(self) -> dict[str, Any]:
        """Constants of the kernels."""
        return {
            "STEPS": self.steps,
            "BLOCK": self.block,
            "DIRECTIONS": self.directions,
            "EDGE": self.edge,
            "EDGES": self.edges,
        }

    @property
    def warps(self) -> int:
        return 4 if self.tile <= 64 else 8
