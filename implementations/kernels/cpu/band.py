"""Layouts of windowed attention's scores in memory, in which they are matrix products without copies.

A row has `length` steps; query i sees the keys i − left … i + right. Queries and keys are taken in blocks; a
window is what the pairs of one block reach on the other side.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from implementations.kernels.cpu.layout import Columns, Layout, Padded


@functools.lru_cache(maxsize=256)
def layout_of(length: int, left: int, right: int, sequences: int = 1) -> Layout:
    """The cheaper of the two layouts, of a row.

    sequences: equal ones one after another; a layout of several Squares keeps them apart, a Band does not.
    """
    # Small blocks leave little of a window outside the band, large ones make matrix products fast.
    block = min(max(32, left // 4), 128)
    band = Band(length, left, right, block)
    return band if length > band.window * sequences else Square(length, left, right, sequences)


@dataclass(frozen=True)
class Band:
    """Blocks of queries against the keys around them.

    The pair (i, j) lies at `i·window + j` plus a constant. So a block of queries against its keys is a
    matrix, a block of keys against its queries is a matrix too, and read as rows of `window + 1` numbers the
    same memory holds the key at distance d in column `left + d`, and behind those columns what is outside
    the band.
    """

    length: int
    left: int
    right: int
    block: int

    @property
    def size(self) -> int:
        return self.length

    @property
    def of_products(self) -> Columns:
        return Columns(self.window, self.left, self.block)

    @property
    def of_rows(self) -> Columns:
        return Columns(self.window + 1, self.left, 1)

    @functools.cached_property
    def width(self) -> int:
        return self.left + 1 + self.right

    @functools.cached_property
    def window(self) -> int:
        return self.block + self.left + self.right

    @functools.cached_property
    def blocks(self) -> int:
        return -(-self.length // self.block)

    @functools.cached_property
    def padded(self) -> int:
        """Queries of whole blocks."""
        return self.blocks * self.block

    @functools.cached_property
    def margin(self) -> int:
        return max(self.left, self.right)

    def empty_rows(self, like: Tensor, width: int) -> Padded:
        before, after = self.margin, self.margin + self.length
        whole = like.new_empty(self.padded + 2 * before, width)
        whole[:before].zero_()
        whole[after:].zero_()
        return Padded(whole, whole[before:after])

    def query_blocks(self, whole: Tensor) -> Tensor:
        return self._blocks(whole, self.margin, self.block)

    def key_windows(self, whole: Tensor) -> Tensor:
        return self._blocks(whole, self.margin - self.left, self.window)

    def query_windows(self, whole: Tensor) -> Tensor:
        return self._blocks(whole, self.margin - self.right, self.window)

    def _blocks(self, whole: Tensor, first: int, size: int) -> Tensor:
        """`(blocks, size, ·)`: rows from `first` on, `size` at a time, a block apart."""
        step = whole.stride(0)
        shape, strides = (self.blocks, size, whole.shape[1]), (self.block * step, step, 1)
        return whole.as_strided(shape, strides, whole.storage_offset() + first * step)

    def empty_scores(self, like: Tensor, fill: float) -> Tensor:
        scores = like.new_empty(self.right + self.padded + self.left, self.window + 1)
        scores[: self.right].zero_()
        scores[self.right + self.padded :].zero_()
        # After the band of a query come pairs of its own window and of the next query's, but not so for the
        # last query of a block.
        self.rows(scores)[self.block - 1 :: self.block, self.width :].fill_(fill)
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
        if self.left:
            before = rows[: self.left, : self.left]
            before.masked_fill_(_corner(self.left, scores.device)[: len(before)], fill)
        if self.right:
            after = rows[max(0, self.length - self.right) : self.length, self.left + 1 : self.width]
            after.masked_fill_(_far_corner(self.right, scores.device)[-len(after) :], fill)

    def sum_by_distance(self, scores: Tensor) -> Tensor:
        return self.in_reach(scores).sum(dim=0)


@dataclass(frozen=True)
class Square:
    """All queries against all keys, for rows so short that most of a window would lie outside them.

    Of several equal sequences one after another, each is a square of its own.
    """

    length: int
    left: int
    right: int
    sequences: int = 1

    @property
    def size(self) -> int:
        return self.length // self.sequences

    @property
    def of_products(self) -> Columns:
        return Columns(self.size, 0, self.size)

    @property
    def of_rows(self) -> Columns:
        return self.of_products

    def empty_rows(self, like: Tensor, width: int) -> Padded:
        whole = like.new_empty(self.length, width)
        return Padded(whole, whole)

    def query_blocks(self, whole: Tensor) -> Tensor:
        return whole.view(self.sequences, self.size, whole.shape[1])

    def key_windows(self, whole: Tensor) -> Tensor:
        return self.query_blocks(whole)

    def query_windows(self, whole: Tensor) -> Tensor:
        return self.query_blocks(whole)

    def empty_scores(self, like: Tensor, fill: float) -> Tensor:
        return like.new_empty(self.length, self.size)

    def by_query(self, scores: Tensor) -> Tensor:
        return self.query_blocks(scores)

    def by_key(self, scores: Tensor) -> Tensor:
        return self.query_blocks(scores)

    def rows(self, scores: Tensor) -> Tensor:
        return scores

    def in_reach(self, scores: Tensor) -> Tensor:
        return scores

    def keys_in_reach(self, values: Tensor) -> Tensor:
        return values.view(self.sequences, 1, self.size).expand(-1, self.size, -1).flatten(0, 1)

    def at_distances(self, values: Tensor, outside: float) -> Tensor:
        lead, trail = self.size - 1 - self.left, self.size - 1 - self.right
        return toeplitz(F.pad(values, (lead, trail), value=outside), self.size)

    def hide_outside(self, scores: Tensor, fill: float) -> None:
        """Do nothing: a square has no such keys."""

    def sum_by_distance(self, scores: Tensor) -> Tensor:
        total, beyond = sum_by_distance(self.by_query(scores).sum(dim=0)), self.size - 1
        return F.pad(total, (self.left - beyond, self.right - beyond))


def toeplitz(values: Tensor, rows: int) -> Tensor:
    """`T[i, j] = values[rows − 1 − i + j]`, of shape `(rows, len(values) − rows + 1)`."""
    return values.unfold(0, len(values) - rows + 1, 1).flip(0)


def sum_by_distance(scores: Tensor) -> Tensor:
    """Scores `(queries, keys)` summed along diagonals: `(queries + keys − 1,)`, lowest key − query first."""
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


@functools.lru_cache(maxsize=16)
def _far_corner(size: int, device: torch.device) -> Tensor:
    """The same, upside down."""
    return _corner(size, device).flip(0, 1)
