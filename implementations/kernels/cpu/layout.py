"""Interface of the layouts in which windowed attention's scores lie in memory; they are in `band`.

A row has `length` steps; query i sees the keys i − left … i + right. Queries and keys are taken in blocks; a
window is what the pairs of one block reach on the other side.
"""

from typing import NamedTuple, Protocol

from torch import Tensor


class Padded(NamedTuple):
    """Rows between zeros."""

    whole: Tensor
    rows: Tensor
    """`(length, ·)`, a view of the whole."""

    def columns(self, start: int, stop: int) -> "Padded":
        """Some columns of both."""
        return Padded(self.whole[:, start:stop], self.rows[:, start:stop])


class Columns(NamedTuple):
    """Place of keys in a matrix of a row per query.

    Key j of query i is in column `j − i + shift + i mod period`.
    """

    pitch: int
    """Columns of a row in memory."""
    shift: int
    period: int


class Layout(Protocol):
    """Layout in which the scores of a row are stored."""

    @property
    def length(self) -> int: ...

    @property
    def size(self) -> int:
        """Steps of a sequence, beyond which no query of it sees."""

    @property
    def of_products(self) -> Columns:
        """Columns of `(blocks, block, window)`, contiguous: blocks of queries times their windows of keys."""

    @property
    def of_rows(self) -> Columns:
        """Columns of `rows`."""

    @property
    def left(self) -> int: ...

    @property
    def right(self) -> int: ...

    def empty_rows(self, like: Tensor, width: int) -> Padded:
        """Memory for queries, keys, values or the output's gradient, `(length, width)`, amid zeros."""

    def query_blocks(self, whole: Tensor) -> Tensor:
        """`(blocks, block, ·)` of queries amid zeros."""

    def key_windows(self, whole: Tensor) -> Tensor:
        """`(blocks, window, ·)`: the keys that a block of queries sees, of keys amid zeros."""

    def query_windows(self, whole: Tensor) -> Tensor:
        """`(blocks, window, ·)`: the queries that see a block of keys, of queries amid zeros."""

    def empty_scores(self, like: Tensor, fill: float) -> Tensor:
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
        """`(queries, reach)`: for these columns, a key's value out of `(length,)`; 0 outside the row."""

    def at_distances(self, values: Tensor, outside: float) -> Tensor:
        """`(block, window)`: values `(left + 1 + right,)` by distance key − query, `outside` beyond."""

    def hide_outside(self, scores: Tensor, fill: float) -> None:
        """Set the scores of keys before the row's first step and after its last."""

    def sum_by_distance(self, scores: Tensor) -> Tensor:
        """`(left + 1 + right,)`: the sum over the pairs at each distance."""
