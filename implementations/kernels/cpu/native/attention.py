"""Weights of windowed attention from scores, and back, in C: `attention.c` as operators of torch."""

from torch import Tensor

from implementations.kernels.cpu.native.calls import call, operator, parts_of, summed

FLOPS = 5
"""An element of a softmax: largest, difference, exponential, sum, product."""


@operator(
    "weigh(Tensor products, Tensor(a!) out, Tensor? bias, Tensor? positions, Tensor? sequence,"
    " Tensor? hidden, int[] columns, int[] reach, int origin, bool squared) -> ()",
    lambda products, *_: FLOPS * products.numel(),
)
def weigh(
    products: Tensor,
    out: Tensor,
    bias: Tensor | None,
    positions: Tensor | None,
    sequence: Tensor | None,
    hidden: Tensor | None,
    columns: list[int],
    reach: list[int],
    origin: int,
    squared: bool,
) -> None:
    """Write the weights of products `(blocks, block, window)` to rows of queries; 0 beyond their keys.

    bias: by distance `(left + 1 + right,)`; or, with positions `(length,)` int64, a table of which the pair
    takes `table[clamp(origin + t_j − t_i)]`. sequence `(length,)` int32, hidden `(length,)` boolean. columns:
    pitch, shift and period of products, then of out, which may be the same memory; reach: the first query,
    length, size of a sequence, left, right.
    squared: relu² in place of softmax.
    """
    arrays = (products, out, bias, positions, sequence, hidden)
    call("weigh", products, *arrays, *_numbers(products, bias, columns, reach, origin, squared))


@operator(
    "weigh_backward(Tensor grad, Tensor weights, Tensor(a!) out, Tensor? bias, Tensor? positions,"
    " Tensor? sequence, Tensor? hidden, int[] columns, int[] reach, int origin, bool squared) -> Tensor",
    lambda grad, *_: FLOPS * grad.numel(),
)
def weigh_backward(
    grad: Tensor,
    weights: Tensor,
    out: Tensor,
    bias: Tensor | None,
    positions: Tensor | None,
    sequence: Tensor | None,
    hidden: Tensor | None,
    columns: list[int],
    reach: list[int],
    origin: int,
    squared: bool,
) -> Tensor:
    """Write the gradients of scores to out, in rows as the weights; returns the bias's, or an empty one.

    grad: of the weights, `(blocks, block, window)`; all others as those of `weigh`.
    """
    parts = parts_of(grad.shape[0] * grad.shape[1])
    grad_bias = grad.new_zeros(parts, 0 if bias is None else len(bias))
    arrays = (grad, weights, out, None if bias is None else grad_bias, positions, sequence, hidden)
    numbers = _numbers(grad, bias, columns, reach, origin, squared)
    call("weigh_backward", grad, *arrays, *numbers, parts)
    return summed(grad_bias)


def _numbers(
    products: Tensor, bias: Tensor | None, columns: list[int], reach: list[int], origin: int, squared: bool
) -> tuple[int, ...]:
    queries, table = products.shape[0] * products.shape[1], 0 if bias is None else len(bias)
    first, *within = reach
    return *columns, first, queries, *within, table, origin, int(squared)
