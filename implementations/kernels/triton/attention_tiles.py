# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Pairs of steps of packed rows, in tiles, on the device.

All rows lie one after another. A tile of pairs may hold steps of several rows; a pair counts if its two steps
are of one row and within the window by their *places*. Places increase along a row by one at least, so steps
that are further apart than the window in the packed rows never see each other, and a block of queries needs
only the keys from `window` before to `window` after it, of its own rows.

KIND: 0 softmax, 1 relu², 2 laplace.
"""

import math

import triton
import triton.language as tl

from implementations.ops.attention_functions import LAPLACE_DEVIATION, LAPLACE_MEAN

MEAN = tl.constexpr(LAPLACE_MEAN)
STEEPNESS = tl.constexpr(1.0 / (LAPLACE_DEVIATION * math.sqrt(2.0)))
DENSITY = tl.constexpr(1.0 / (LAPLACE_DEVIATION * math.sqrt(2.0 * math.pi)))


@triton.jit
def reach_of(
    rows,
    first,
    window,
    BEFORE: tl.constexpr,
    AFTER: tl.constexpr,
    WINDOWED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Range of the partners of the steps `first` to `first + BLOCK`, and the end of all steps.

    BEFORE, AFTER: whether a step has partners earlier, or later, than itself.
    """
    offsets, last, row = rows[0], rows[1], rows[2]
    total = tl.load(offsets + last)
    end = tl.minimum(first + BLOCK, total)
    alive = first < total
    low = tl.load(offsets + tl.load(row + first, mask=alive, other=0))
    high = tl.load(offsets + tl.load(row + end - 1, mask=alive, other=0) + 1)
    if not BEFORE:
        low = tl.maximum(low, first)
    elif WINDOWED:
        low = tl.maximum(low, first - window)
    if not AFTER:
        high = tl.minimum(high, end)
    elif WINDOWED:
        high = tl.minimum(high, end + window)
    return low, tl.where(alive, high, low), total


@triton.jit
def steps_at(rows, at, end, MISSING: tl.constexpr, HIDDEN: tl.constexpr):
    """Row, place and bias position of steps; the row is MISSING beyond the end and at hidden steps."""
    _, _, row, place, where, hidden = rows
    inside = at < end
    of_row = tl.load(row + at, mask=inside, other=MISSING).to(tl.int32)
    if HIDDEN:
        of_row = tl.where(tl.load(hidden + at, mask=inside, other=1) != 0, MISSING, of_row)
    of_place = tl.load(place + at, mask=inside, other=0).to(tl.int32)
    return of_row, of_place, tl.load(where + at, mask=inside, other=0).to(tl.int32)


@triton.jit
def load_tile(x, at, end, first_column, width, COLUMNS: tl.constexpr):
    """Steps `at` of x `(steps, width)` and a block of columns; zeros outside."""
    column = first_column + tl.arange(0, COLUMNS)
    inside = (at < end)[:, None] & (column < width)[None, :]
    return tl.load(x + at[:, None] * width + column[None, :], mask=inside, other=0.0)


@triton.jit
def store_tile(x, value, at, end, first_column, width, COLUMNS: tl.constexpr):
    column = first_column + tl.arange(0, COLUMNS)
    inside = (at < end)[:, None] & (column < width)[None, :]
    tl.store(x + at[:, None] * width + column[None, :], value, mask=inside)


@triton.jit
def query_scale(
    queries, counts, SCALE: tl.constexpr, BY_KEYS: tl.constexpr, CAUSAL: tl.constexpr, ACC: tl.constexpr
):
    """Factor of each query's products: SCALE or, if BY_KEYS, one over the number of keys in reach."""
    row, place, _ = queries
    scale = (place * 0).to(ACC) + SCALE
    if BY_KEYS:
        if CAUSAL:
            scale = 1.0 / (place + 1).to(ACC)
        else:
            scale = 1.0 / tl.load(counts + row, mask=row >= 0, other=1).to(ACC)
    return scale


@triton.jit
def scores_of(
    q, k, queries, keys, scale, bias, window,
    BIASED: tl.constexpr, WINDOWED: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The scores of a tile of pairs, which of them count, and the place of each in the bias's table."""
    query_row, query_place, query_where = queries
    key_row, key_place, key_where = keys
    table, size, origin = bias
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale[:, None]
    entry = key_where[None, :] - query_where[:, None] + origin
    entry = tl.minimum(tl.maximum(entry, 0), size - 1)
    if BIASED:
        scores += tl.load(table + entry)
    counts = query_row[:, None] == key_row[None, :]
    distance = key_place[None, :] - query_place[:, None]
    if WINDOWED:
        counts = counts & (tl.abs(distance) <= window)
    if CAUSAL:
        counts = counts & (distance <= 0)
    return scores, counts, entry


@triton.jit
def weights_of(scores, counts, log_sum, KIND: tl.constexpr):
    if KIND == 0:
        weights = tl.exp(scores - log_sum[:, None])
    elif KIND == 1:
        positive = tl.maximum(scores, 0.0)
        weights = positive * positive
    else:
        weights = 0.5 + 0.5 * tl.erf((scores - MEAN) * STEEPNESS)
    return tl.where(counts, weights, 0.0)


@triton.jit
def score_gradient(grad, scores, counts, log_sum, delta, KIND: tl.constexpr):
    """The gradient of the scores: grad is that of the weights, delta each query's `grad·weights`."""
    if KIND == 0:
        result = tl.exp(scores - log_sum[:, None]) * (grad - delta[:, None])
    elif KIND == 1:
        result = 2.0 * tl.maximum(scores, 0.0) * grad
    else:
        z = (scores - MEAN) * STEEPNESS
        result = DENSITY * tl.exp(-z * z) * grad
    return tl.where(counts, result, 0.0)


@triton.jit
def add_tile(x, value, at, end, width, COLUMNS: tl.constexpr):
    """Add to steps `at` of x `(steps, width)`."""
    column = tl.arange(0, COLUMNS)
    inside = (at < end)[:, None] & (column < width)[None, :]
    tl.atomic_add(x + at[:, None] * width + column[None, :], value, mask=inside, sem="relaxed")


@triton.jit
def along_diagonals(queries, keys, query, key, counts):
    """Whether pairs as far apart have one bias: if steps of a row have positions without gaps."""
    apart = (keys[2] - key)[None, :] - (queries[2] - query)[:, None]
    return tl.max(tl.max(tl.where(counts, tl.abs(apart), 0), axis=1), axis=0) == 0


@triton.jit
def add_diagonals(table, grad, apart, size, origin, QUERIES: tl.constexpr, KEYS: tl.constexpr):
    """Add the sums along a tile's diagonals to a bias's table; apart: of its first key and query.

    Diagonals become columns, each key's index less the query's a multiple of KEYS apart within one.
    """
    query = tl.arange(0, QUERIES)[:, None]
    column = tl.arange(0, KEYS)[None, :]
    diagonals = tl.gather(grad, (query + column) % KEYS, 1)
    for turn in tl.static_range((QUERIES + KEYS - 2) // KEYS + 1):
        sums = tl.sum(tl.where((query + column) // KEYS == turn, diagonals, 0.0), axis=0)
        entry = apart + tl.arange(0, KEYS) - turn * KEYS + origin
        entry = tl.minimum(tl.maximum(entry, 0), size - 1)
        tl.atomic_add(table + entry, sums, mask=sums != 0.0, sem="relaxed")
