"""Where the scores of windowed attention lie in memory, so that they are matrix products without copies.

A row has `length` steps; query i sees the keys i − left … i + right. Queries and keys are taken in blocks; a
window is what the pairs of one block reach on the other side.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Padded(NamedTuple):
    """Rows between zeros."""

    whole: Tensor
    rows: Tensor
    """`(length, ·)`, a view of the whole."""

    def filled(self, x: Tensor) -> Tensor:
        """The whole, after x is written to the rows."""
        self.rows.copy_(x)
        return self.whole


def between_zeros(like: Tensor, before: int, length: int, after: int, width: int) -> Padded:
    """Memory for `length` rows of a width, which are not initialised, between rows of zeros."""
    whole = like.new_empty(before + length + after, width)
    whole[:before] = 0.0
    whole[before + length :] = 0.0
    return Padded(whole, whole[before : before + length])


class Layout(Protocol):
    """How the scores of a row are stored."""

    length: int
    left: int
    right: int

    def empty_keys(self, like: Tensor, width: int) -> Padded:
        """Memory for rows of keys or values between the zeros that their windows need."""

    def empty_queries(self, like: Tensor, width: int) -> Padded:
        """Memory for rows of queries, or of the output's gradient, between such zeros."""

    def query_blocks(self, padded: Tensor) -> Tensor:
        """`(blocks, block, ·)` of padded queries."""

    def windows(self, padded: Tensor) -> Tensor:
        """`(blocks, window, ·)`: what a block of queries sees of padded keys, or a block of keys of queries."""

    def empty(self, like: Tensor, fill: float) -> Tensor:
        """Memory for scores. Beyond the pairs of the windows it is 0, or `fill` within rows."""

    def by_query(self, scores: Tensor) -> Tensor:
        """`(blocks, block, window)`: blocks of queries against the keys of their windows."""

    def by_key(self, scores: Tensor) -> Tensor:
        """`(blocks, window, block)`: queries of a window against the block of keys that they see."""

    def rows(self, scores: Tensor) -> Tensor:
        """`(queries, columns)`: all of a query's scores in one contiguous row."""

    def in_reach(self, scores: Tensor) -> Tensor:
        """`(queries, reach)`: the columns of rows that may hold a key in reach."""

    def keys_in_reach(self, values: Tensor) -> Tensor:
        """`(queries, reach)`: for each of those, a key's number out of `(length,)`; 0 outside the row."""

    def at_distances(self, values: Tensor, outside: float) -> Tensor:
        """`(block, window)`: values `(left + 1 + right,)` by distance key − query, `outside` beyond."""

    def hide_outside(self, scores: Tensor, fill: float) -> None:
        """Set the scores of keys before the row's first step and after its last."""

    def sum_by_distance(self, scores: Tensor) -> Tensor:
        """`(left + 1 + right,)`: the sum over the pairs at each distance."""


def layout_of(length: int, left: int, right: int) -> Layout:
    """The cheaper of the two layouts."""
    # Small blocks leave little of a window outside the band, large ones make matrix products fast.
    block = min(max(32, left // 4), 128)
    band = Band(length, left, right, block)
    return band if length > band.window else Square(length, left, right)


@dataclass(frozen=True)
class Band:
    """Blocks of queries against the keys around them.

    The pair (i, j) lies at `i·window + j` plus a constant. So a block of queries against its keys is a matrix,
    a block of keys against its queries is a matrix too, and read as rows of `window + 1` numbers the same
    memory holds the key at distance d in column `left + d`, and after those columns what is outside the band.
    """

    length: int
    left: int
    right: int
    block: int

    @property
    def width(self) -> int:
        return self.left + 1 + self.right

    @property
    def window(self) -> int:
        return self.block + self.left + self.right

    @property
    def blocks(self) -> int:
        return -(-self.length // self.block)

    @property
    def padded(self) -> int:
        """Queries of whole blocks."""
        return self.blocks * self.block

    def empty_keys(self, like: Tensor, width: int) -> Padded:
        return between_zeros(like, self.left, self.length, self.padded - self.length + self.right, width)

    def empty_queries(self, like: Tensor, width: int) -> Padded:
        return between_zeros(like, self.right, self.length, self.padded - self.length + self.left, width)

    def query_blocks(self, padded: Tensor) -> Tensor:
        return padded[self.right : self.right + self.padded].unflatten(0, (self.blocks, self.block))

    def windows(self, padded: Tensor) -> Tensor:
        step = padded.stride(0)
        return padded.as_strided((self.blocks, self.window, padded.shape[1]), (self.block * step, step, 1))

    def empty(self, like: Tensor, fill: float) -> Tensor:
        scores = like.new_empty(self.right + self.padded + self.left, self.window + 1)
        scores[: self.right] = 0.0
        scores[self.right + self.padded :] = 0.0
        # After the band of a query come pairs of its own window and of the next query's, but not so for the
        # last query of a block.
        self.rows(scores)[self.block - 1 :: self.block, self.width :] = fill
        return scores

    def by_query(self, scores: Tensor) -> Tensor:
        shape, pitch = (self.blocks, self.block, self.window), self.window + 1
        return scores.as_strided(shape, (self.block * pitch, self.window, 1), self.right * pitch)

    def by_key(self, scores: Tensor) -> Tensor:
        shape, pitch = (self.blocks, self.window, self.block), self.window + 1
        return scores.as_strided(shape, (self.block * pitch, self.window, 1), self.left + self.right)

    def rows(self, scores: Tensor) -> Tensor:
        return scores[self.right : self.right + self.padded]

    def in_reach(self, scores: Tensor) -> Tensor:
        return self.rows(scores)[:, : self.width]

    def keys_in_reach(self, values: Tensor) -> Tensor:
        around = F.pad(values, (self.left, self.padded - self.length + self.right))
        return around.as_strided((self.padded, self.width), (1, 1))

    def at_distances(self, values: Tensor, outside: float) -> Tensor:
        return toeplitz(F.pad(values, (self.block - 1, self.block - 1), value=outside), self.block)

    def hide_outside(self, scores: Tensor, fill: float) -> None:
        rows = self.rows(scores)
        before = rows[: self.left, : self.left]
        before.masked_fill_(_corner(self.left, scores.device)[: len(before)], fill)
        first = max(0, self.length - self.right)
        after = rows[first : self.length, self.left + 1 : self.width]
        after.masked_fill_(_corner(self.right, scores.device).flip(0, 1)[-len(after) :], fill)

    def sum_by_distance(self, scores: Tensor) -> Tensor:
        return self.in_reach(scores).sum(dim=0)


@dataclass(frozen=True)
class Square:
    """All queries against all keys, for rows so short that most of a window would lie outside them."""

    length: int
    left: int
    right: int

    def empty_keys(self, like: Tensor, width: int) -> Padded:
        return between_zeros(like, 0, self.length, 0, width)

    def empty_queries(self, like: Tensor, width: int) -> Padded:
        return self.empty_keys(like, width)

    def query_blocks(self, padded: Tensor) -> Tensor:
        return padded.unsqueeze(0)

    def windows(self, padded: Tensor) -> Tensor:
        return padded.unsqueeze(0)

    def empty(self, like: Tensor, fill: float) -> Tensor:
        return like.new_empty(self.length, self.length)

    def by_query(self, scores: Tensor) -> Tensor:
        return scores.unsqueeze(0)

    def by_key(self, scores: Tensor) -> Tensor:
        return scores.unsqueeze(0)

    def rows(self, scores: Tensor) -> Tensor:
        return scores

    def in_reach(self, scores: Tensor) -> Tensor:
        return scores

    def keys_in_reach(self, values: Tensor) -> Tensor:
        return values.expand(self.length, self.length)

    def at_distances(self, values: Tensor, outside: float) -> Tensor:
        lead, trail = self.length - 1 - self.left, self.length - 1 - self.right
        return toeplitz(F.pad(values, (lead, trail), value=outside), self.length)

    def hide_outside(self, scores: Tensor, fill: float) -> None:
        """A square has no such keys."""

    def sum_by_distance(self, scores: Tensor) -> Tensor:
        total, beyond = sum_by_distance(scores), self.length - 1
        return F.pad(total, (self.left - beyond, self.right - beyond))


def toeplitz(values: Tensor, rows: int) -> Tensor:
    """`T[i, j] = values[rows − 1 − i + j]`, of shape `(rows, len(values) − rows + 1)`."""
    return values.unfold(0, len(values) - rows + 1, 1).flip(0)


def sum_by_distance(scores: Tensor) -> Tensor:
    """Scores `(queries, keys)` summed along diagonals: `(queries + keys − 1,)`, from the lowest key − query on."""
    queries, keys = scores.shape
    # In rows one longer than there are distances, each distance is a column.
    columns = queries + keys
    by_distance = scores.new_zeros(queries, columns)
    by_distance.as_strided(scores.shape, (columns - 1, 1), queries - 1).copy_(scores)
    return by_distance.sum(dim=0)[:-1]


@functools.lru_cache(maxsize=16)
def _corner(size: int, device: torch.device) -> Tensor:
    """`(size, size)` boolean, True above and left of the second diagonal."""
    index = torch.arange(size, device=device)
    return index + index.unsqueeze(-1) < size
