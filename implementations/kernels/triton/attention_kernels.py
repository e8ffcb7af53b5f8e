# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Attention over packed rows of different lengths, within a window or not: what runs on the device.

All rows lie one after another. A tile of pairs may hold steps of several rows; a pair counts if its two steps
are of one row and within the window by their *places*. Places increase along a row by one at least, so steps
that are further apart than the window in the packed rows never see each other, and a block of queries needs
only the keys from `window` before to `window` after it, of its own rows.

KIND: 0 softmax, 1 relu², 2 laplace. Scores are recomputed in each of the backward kernels, so that nothing is
stored of them but the logarithm of the softmax's sum.
"""

import math

import triton
import triton.language as tl

from implementations.ops.attention_functions import LAPLACE_DEVIATION, LAPLACE_MEAN

MEAN = tl.constexpr(LAPLACE_MEAN)
STEEPNESS = tl.constexpr(1.0 / (LAPLACE_DEVIATION * math.sqrt(2.0)))
DENSITY = tl.constexpr(1.0 / (LAPLACE_DEVIATION * math.sqrt(2.0 * math.pi)))


@triton.jit
def _reach(rows, first, window, BEFORE: tl.constexpr, AFTER: tl.constexpr, WINDOWED: tl.constexpr, BLOCK: tl.constexpr):
    """From where to where the partners lie of the steps `first` to `first + BLOCK`, and where all steps end.

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
def _steps(rows, at, end, MISSING: tl.constexpr, HIDDEN: tl.constexpr):
    """Row, place and bias position of steps; the row is MISSING beyond the end and at hidden steps."""
    _, _, row, place, where, hidden = rows
    inside = at < end
    of_row = tl.load(row + at, mask=inside, other=MISSING).to(tl.int32)
    if HIDDEN:
        of_row = tl.where(tl.load(hidden + at, mask=inside, other=1) != 0, MISSING, of_row)
    of_place = tl.load(place + at, mask=inside, other=0).to(tl.int32)
    return of_row, of_place, tl.load(where + at, mask=inside, other=0).to(tl.int32)


@triton.jit
def _tile(x, at, end, first_column, width, COLUMNS: tl.constexpr):
    """Steps `at` of x `(steps, width)` and a block of columns; zeros outside."""
    column = first_column + tl.arange(0, COLUMNS)
    inside = (at < end)[:, None] & (column < width)[None, :]
    return tl.load(x + at[:, None] * width + column[None, :], mask=inside, other=0.0)


@triton.jit
def _put(x, value, at, end, first_column, width, COLUMNS: tl.constexpr):
    column = first_column + tl.arange(0, COLUMNS)
    inside = (at < end)[:, None] & (column < width)[None, :]
    tl.store(x + at[:, None] * width + column[None, :], value, mask=inside)


@triton.jit
def _query_scale(queries, counts, SCALE: tl.constexpr, BY_KEYS: tl.constexpr, CAUSAL: tl.constexpr, ACC: tl.constexpr):
    """What the products of each query are multiplied by: SCALE or, if BY_KEYS, one over the keys in reach."""
    row, place, _ = queries
    scale = (place * 0).to(ACC) + SCALE
    if BY_KEYS:
        if CAUSAL:
            scale = 1.0 / (place + 1).to(ACC)
        else:
            scale = 1.0 / tl.load(counts + row, mask=row >= 0, other=1).to(ACC)
    return scale


@triton.jit
def _scores(
    q, k, queries, keys, scale, bias, window,
    BIASED: tl.constexpr, WINDOWED: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The scores of a tile of pairs, which of them count, and where in the bias's table each has its number."""
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
def _weights(scores, counts, log_sum, KIND: tl.constexpr):
    if KIND == 0:
        weights = tl.exp(scores - log_sum[:, None])
    elif KIND == 1:
        positive = tl.maximum(scores, 0.0)
        weights = positive * positive
    else:
        weights = 0.5 + 0.5 * tl.erf((scores - MEAN) * STEEPNESS)
    return tl.where(counts, weights, 0.0)


@triton.jit
def _score_gradient(grad, scores, counts, log_sum, delta, KIND: tl.constexpr):
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
def attention_kernel(
    q, k, v, bias, rows, counts, out, log_sums, steps, dim, hidden, window,
    KIND: tl.constexpr,
    SCALE: tl.constexpr,
    BY_KEYS: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOWED: tl.constexpr,
    BIASED: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
    HIDDEN: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """out `(steps, hidden)` and, for softmax, the log of each query's sum. Grid: query, value blocks."""
    first = tl.program_id(0).to(tl.int64) * QUERIES
    column = tl.program_id(1) * HIDDEN
    at = first + tl.arange(0, QUERIES)
    low, high, total = _reach(rows, first, window, True, not CAUSAL, WINDOWED, QUERIES)
    queries = _steps(rows, at, total, -1, False)
    scale = _query_scale(queries, counts, SCALE, BY_KEYS, CAUSAL, ACC)
    q_tile = _tile(q, at, total, 0, dim, DIM)
    result = tl.zeros((QUERIES, HIDDEN), ACC)
    largest = tl.full((QUERIES,), float("-inf"), ACC)
    sums = tl.zeros((QUERIES,), ACC)
    for start in range(low, high, KEYS):
        key = start + tl.arange(0, KEYS)
        keys = _steps(rows, key, high, -2, MASKED)
        k_tile = _tile(k, key, high, 0, dim, DIM)
        scores, seen, _ = _scores(
            q_tile, k_tile, queries, keys, scale, bias, window, BIASED, WINDOWED, CAUSAL, PRECISION
        )
        if KIND == 0:
            scores = tl.where(seen, scores, float("-inf"))
            larger = tl.maximum(largest, tl.max(scores, axis=1))
            # A query that has seen no key yet has nothing to rescale.
            base = tl.where(larger == float("-inf"), 0.0, larger)
            weights = tl.exp(scores - base[:, None])
            shrink = tl.exp(largest - base)
            sums = sums * shrink + tl.sum(weights, axis=1)
            result *= shrink[:, None]
            largest = larger
        else:
            weights = _weights(scores, seen, sums, KIND)
        values = _tile(v, key, high, column, hidden, HIDDEN)
        result += tl.dot(weights.to(v.dtype.element_ty), values, input_precision=PRECISION)
    if KIND == 0:
        none = sums == 0.0
        result /= tl.where(none, 1.0, sums)[:, None]
        log_sum = tl.where(none, 0.0, largest + tl.log(tl.where(none, 1.0, sums)))
        tl.store(log_sums + at, log_sum, mask=at < tl.where(column == 0, steps, 0))
    _put(out, result, at, steps, column, hidden, HIDDEN)


@triton.jit
def values_backward_kernel(
    q, k, bias, rows, counts, grad, log_sums, grad_v, steps, dim, hidden, window,
    KIND: tl.constexpr,
    SCALE: tl.constexpr,
    BY_KEYS: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOWED: tl.constexpr,
    BIASED: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
    HIDDEN: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """The gradient of v. Grid: key blocks, value blocks."""
    first = tl.program_id(0).to(tl.int64) * KEYS
    column = tl.program_id(1) * HIDDEN
    at = first + tl.arange(0, KEYS)
    low, high, total = _reach(rows, first, window, not CAUSAL, True, WINDOWED, KEYS)
    keys = _steps(rows, at, total, -2, MASKED)
    k_tile = _tile(k, at, total, 0, dim, DIM)
    result = tl.zeros((KEYS, HIDDEN), ACC)
    for start in range(low, high, QUERIES):
        query = start + tl.arange(0, QUERIES)
        queries = _steps(rows, query, high, -1, False)
        scale = _query_scale(queries, counts, SCALE, BY_KEYS, CAUSAL, ACC)
        q_tile = _tile(q, query, high, 0, dim, DIM)
        scores, seen, _ = _scores(
            q_tile, k_tile, queries, keys, scale, bias, window, BIASED, WINDOWED, CAUSAL, PRECISION
        )
        weights = _weights(scores, seen, tl.load(log_sums + query, mask=query < high, other=0.0), KIND)
        g = _tile(grad, query, high, column, hidden, HIDDEN)
        result += tl.dot(tl.trans(weights.to(g.dtype)), g, input_precision=PRECISION)
    _put(grad_v, result, at, steps, column, hidden, HIDDEN)


@triton.jit
def queries_backward_kernel(
    q, k, v, bias, rows, counts, out, grad, log_sums, deltas, grad_q, grad_bias, copies,
    steps, dim, hidden, window,
    KIND: tl.constexpr,
    SCALE: tl.constexpr,
    BY_KEYS: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOWED: tl.constexpr,
    BIASED: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
    HIDDEN: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Gradients of q and of the bias, and each query's `grad·out`. Grid: query blocks.

    grad_bias `(copies, table)`: programs share a few copies of the table, to stand in each other's way less.
    """
    first = tl.program_id(0).to(tl.int64) * QUERIES
    at = first + tl.arange(0, QUERIES)
    low, high, total = _reach(rows, first, window, True, not CAUSAL, WINDOWED, QUERIES)
    queries = _steps(rows, at, total, -1, False)
    scale = _query_scale(queries, counts, SCALE, BY_KEYS, CAUSAL, ACC)
    q_tile = _tile(q, at, total, 0, dim, DIM)
    delta = tl.zeros((QUERIES,), ACC)
    log_sum = delta
    if KIND == 0:
        log_sum = tl.load(log_sums + at, mask=at < total, other=0.0)
        for column in range(0, hidden, HIDDEN):
            g = _tile(grad, at, total, column, hidden, HIDDEN).to(ACC)
            delta += tl.sum(g * _tile(out, at, total, column, hidden, HIDDEN).to(ACC), axis=1)
        tl.store(deltas + at, delta, mask=at < steps)
    own_copy = grad_bias + (tl.program_id(0) % copies) * bias[1]
    result = tl.zeros((QUERIES, DIM), ACC)
    for start in range(low, high, KEYS):
        key = start + tl.arange(0, KEYS)
        keys = _steps(rows, key, high, -2, MASKED)
        k_tile = _tile(k, key, high, 0, dim, DIM)
        scores, seen, entry = _scores(
            q_tile, k_tile, queries, keys, scale, bias, window, BIASED, WINDOWED, CAUSAL, PRECISION
        )
        g = tl.zeros((QUERIES, KEYS), ACC)
        for column in range(0, hidden, HIDDEN):
            grads = _tile(grad, at, total, column, hidden, HIDDEN)
            values = _tile(v, key, high, column, hidden, HIDDEN)
            g += tl.dot(grads, tl.trans(values), input_precision=PRECISION)
        g = _score_gradient(g, scores, seen, log_sum, delta, KIND)
        if BIASED:
            tl.atomic_add(own_copy + entry, g, mask=seen, sem="relaxed")
        result += tl.dot((g * scale[:, None]).to(k_tile.dtype), k_tile, input_precision=PRECISION)
    _put(grad_q, result, at, steps, 0, dim, DIM)


@triton.jit
def keys_backward_kernel(
    q, k, v, bias, rows, counts, grad, log_sums, deltas, grad_k, steps, dim, hidden, window,
    KIND: tl.constexpr,
    SCALE: tl.constexpr,
    BY_KEYS: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOWED: tl.constexpr,
    BIASED: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
    HIDDEN: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """The gradient of k. Grid: key blocks."""
    first = tl.program_id(0).to(tl.int64) * KEYS
    at = first + tl.arange(0, KEYS)
    low, high, total = _reach(rows, first, window, not CAUSAL, True, WINDOWED, KEYS)
    keys = _steps(rows, at, total, -2, MASKED)
    k_tile = _tile(k, at, total, 0, dim, DIM)
    result = tl.zeros((KEYS, DIM), ACC)
    for start in range(low, high, QUERIES):
        query = start + tl.arange(0, QUERIES)
        queries = _steps(rows, query, high, -1, False)
        scale = _query_scale(queries, counts, SCALE, BY_KEYS, CAUSAL, ACC)
        q_tile = _tile(q, query, high, 0, dim, DIM)
        scores, seen, _ = _scores(
            q_tile, k_tile, queries, keys, scale, bias, window, BIASED, WINDOWED, CAUSAL, PRECISION
        )
        g = tl.zeros((QUERIES, KEYS), ACC)
        for column in range(0, hidden, HIDDEN):
            grads = _tile(grad, query, high, column, hidden, HIDDEN)
            values = _tile(v, at, total, column, hidden, HIDDEN)
            g += tl.dot(grads, tl.trans(values), input_precision=PRECISION)
        log_sum = tl.load(log_sums + query, mask=query < high, other=0.0)
        delta = tl.load(deltas + query, mask=query < high, other=0.0)
        g = _score_gradient(g, scores, seen, log_sum, delta, KIND) * scale[:, None]
        result += tl.dot(tl.trans(g.to(q_tile.dtype)), q_tile, input_precision=PRECISION)
    _put(grad_k, result, at, steps, 0, dim, DIM)
