"""Steps of states moved in C: `transpose.c` and `steps.c` as operators of torch."""

from torch import Tensor

from implementations.kernels.cpu.native.calls import call, operator


@operator("to_innermost(Tensor states) -> Tensor", lambda states: 0)
def to_innermost(states: Tensor) -> Tensor:
    """A contiguous copy of states `(blocks, dim, rows, length)` whose channels are innermost in memory."""
    (blocks, dim, rows, length), y = states.shape, states.new_empty(states.shape)
    block, _, row, line = states.stride()
    into = y, dim * rows * length, length, rows * length
    call("transpose", states, states, block, row, line, *into, blocks, rows, length, dim)
    return y


@operator("to_outermost(Tensor states) -> Tensor", lambda states: 0)
def to_outermost(states: Tensor) -> Tensor:
    """`(blocks, rows, length, dim)`, contiguous, from contiguous states `(blocks, dim, rows, length)`."""
    blocks, dim, rows, length = states.shape
    y = states.new_empty(blocks, rows, length, dim)
    into = y, rows * length * dim, length * dim, dim
    strides = dim * rows * length, length, rows * length
    call("transpose", states, states, *strides, *into, blocks, rows, dim, length)
    return y


@operator(
    "take_steps(Tensor x, Tensor? steps, float dropout, int seed) -> Tensor",
    lambda *_: 0,
)
def take_steps(x: Tensor, steps: Tensor | None, dropout: float, seed: int) -> Tensor:
    """Dropout of some steps `(count,)` int64, or all, of x `(channels, all)`, whose rows are contiguous."""
    y = x.new_empty(len(x), x.shape[1] if steps is None else len(steps))
    call("take_steps", x, x, x.stride(0), steps, y, *y.shape, dropout, seed)
    return y


@operator(
    "add_steps(Tensor(a!) x, Tensor steps, Tensor part, float dropout, int seed) -> ()",
    lambda x, steps, part, *_: part.numel(),
)
def add_steps(x: Tensor, steps: Tensor, part: Tensor, dropout: float, seed: int) -> None:
    """Add dropout of a part `(channels, count)` to some steps `(count,)` int64 of x `(channels, all)`.

    The part is contiguous, and so are x's rows.
    """
    _add(x, steps, part, x, dropout, seed)


@operator(
    "write_dropped_sum(Tensor x, Tensor part, Tensor(a!) y, float dropout, int seed) -> ()",
    lambda x, *_: x.numel(),
)
def write_dropped_sum(x: Tensor, part: Tensor, y: Tensor, dropout: float, seed: int) -> None:
    """Write `x + dropout(part)` to y, which may be x; all `(channels, steps)`.

    The part is contiguous, and so are the rows of x and y.
    """
    _add(x, None, part, y, dropout, seed)


def _add(x: Tensor, steps: Tensor | None, part: Tensor, y: Tensor, dropout: float, seed: int) -> None:
    call("add_steps", x, x, x.stride(0), steps, part, y, y.stride(0), *part.shape, dropout, seed)
