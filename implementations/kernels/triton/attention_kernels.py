# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Attention over packed rows of different lengths, within a window or not, on the device.

Scores are computed anew in each of the backward kernels, so that only the logarithm of the softmax's sum is
stored of them.
"""

import triton
import triton.language as tl

from implementations.kernels.triton.attention_tiles import (
    add_diagonals,
    add_tile,
    along_diagonals,
    load_tile,
    query_scale,
    reach_of,
    score_gradient,
    scores_of,
    steps_at,
    store_tile,
    weights_of,
)


@triton.jit(do_not_specialize=["steps"])
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
    low, high, total = reach_of(rows, first, window, True, not CAUSAL, WINDOWED, QUERIES)
    queries = steps_at(rows, at, total, -1, False)
    scale = query_scale(queries, counts, SCALE, BY_KEYS, CAUSAL, ACC)
    q_tile = load_tile(q, at, total, 0, dim, DIM)
    result = tl.zeros((QUERIES, HIDDEN), ACC)
    largest = tl.full((QUERIES,), float("-inf"), ACC)
    sums = tl.zeros((QUERIES,), ACC)
    for start in range(low, high, KEYS):
        key = start + tl.arange(0, KEYS)
        keys = steps_at(rows, key, high, -2, MASKED)
        k_tile = load_tile(k, key, high, 0, dim, DIM)
        scores, seen, _ = scores_of(
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
            weights = weights_of(scores, seen, sums, KIND)
        values = load_tile(v, key, high, column, hidden, HIDDEN)
        result += tl.dot(weights.to(v.dtype.element_ty), values, input_precision=PRECISION)
    if KIND == 0:
        none = sums == 0.0
        result /= tl.where(none, 1.0, sums)[:, None]
        log_sum = tl.where(none, 0.0, largest + tl.log(tl.where(none, 1.0, sums)))
        tl.store(log_sums + at, log_sum, mask=at < tl.where(column == 0, steps, 0))
    store_tile(out, result, at, steps, column, hidden, HIDDEN)


@triton.jit(do_not_specialize=["steps"])
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
    low, high, total = reach_of(rows, first, window, not CAUSAL, True, WINDOWED, KEYS)
    keys = steps_at(rows, at, total, -2, MASKED)
    k_tile = load_tile(k, at, total, 0, dim, DIM)
    result = tl.zeros((KEYS, HIDDEN), ACC)
    for start in range(low, high, QUERIES):
        query = start + tl.arange(0, QUERIES)
        queries = steps_at(rows, query, high, -1, False)
        scale = query_scale(queries, counts, SCALE, BY_KEYS, CAUSAL, ACC)
        q_tile = load_tile(q, query, high, 0, dim, DIM)
        scores, seen, _ = scores_of(
            q_tile, k_tile, queries, keys, scale, bias, window, BIASED, WINDOWED, CAUSAL, PRECISION
        )
        weights = weights_of(scores, seen, tl.load(log_sums + query, mask=query < high, other=0.0), KIND)
        g = load_tile(grad, query, high, column, hidden, HIDDEN)
        result += tl.dot(tl.trans(weights.to(g.dtype)), g, input_precision=PRECISION)
    store_tile(grad_v, result, at, steps, column, hidden, HIDDEN)


@triton.jit(do_not_specialize=["steps"])
def scores_backward_kernel(
    q, k, v, bias, rows, counts, out, grad, log_sums, grad_q, grad_k, grad_bias, copies,
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
    """The gradients of q, and added to grad_k and grad_bias those of k and the bias. Grid: query blocks.

    grad_k `(steps, dim)` in ACC; grad_bias `(copies, table)`: programs share a few copies of the table, to
    contend less for its elements.
    """
    first = tl.program_id(0).to(tl.int64) * QUERIES
    at = first + tl.arange(0, QUERIES)
    low, high, total = reach_of(rows, first, window, True, not CAUSAL, WINDOWED, QUERIES)
    queries = steps_at(rows, at, total, -1, False)
    scale = query_scale(queries, counts, SCALE, BY_KEYS, CAUSAL, ACC)
    q_tile = load_tile(q, at, total, 0, dim, DIM)
    delta = tl.zeros((QUERIES,), ACC)
    log_sum = delta
    if KIND == 0:
        log_sum = tl.load(log_sums + at, mask=at < total, other=0.0)
        for column in range(0, hidden, HIDDEN):
            g = load_tile(grad, at, total, column, hidden, HIDDEN).to(ACC)
            delta += tl.sum(g * load_tile(out, at, total, column, hidden, HIDDEN).to(ACC), axis=1)
    _, size, origin = bias
    own_copy = grad_bias + (tl.program_id(0) % copies) * size
    result = tl.zeros((QUERIES, DIM), ACC)
    for start in range(low, high, KEYS):
        key = start + tl.arange(0, KEYS)
        keys = steps_at(rows, key, high, -2, MASKED)
        k_tile = load_tile(k, key, high, 0, dim, DIM)
        scores, seen, entry = scores_of(
            q_tile, k_tile, queries, keys, scale, bias, window, BIASED, WINDOWED, CAUSAL, PRECISION
        )
        g = tl.zeros((QUERIES, KEYS), ACC)
        for column in range(0, hidden, HIDDEN):
            grads = load_tile(grad, at, total, column, hidden, HIDDEN)
            values = load_tile(v, key, high, column, hidden, HIDDEN)
            g += tl.dot(grads, tl.trans(values), input_precision=PRECISION)
        g = score_gradient(g, scores, seen, log_sum, delta, KIND)
        if BIASED:
            if along_diagonals(queries, keys, at, key, seen):
                add_diagonals(own_copy, g, start - first, size, origin, QUERIES, KEYS)
            else:
                tl.atomic_add(own_copy + entry, g, mask=seen, sem="relaxed")
        g = (g * scale[:, None]).to(k_tile.dtype)
        result += tl.dot(g, k_tile, input_precision=PRECISION)
        add_tile(grad_k, tl.dot(tl.trans(g), q_tile, input_precision=PRECISION), key, high, dim, DIM)
    store_tile(grad_q, result, at, steps, 0, dim, DIM)
