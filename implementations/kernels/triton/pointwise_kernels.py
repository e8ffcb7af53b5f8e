# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Functions of single elements that several kernels share."""

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def silu_slope(x):
    """The derivative of `x·σ(x)`."""
    s = sigmoid(x)
    return s * (1.0 + x * (1.0 - s))


@triton.jit
def keep(seed, at, PROBABILITY: tl.constexpr, ACC: tl.constexpr):
    """Factor of dropout for the elements numbered `at`: 0, or 1/(1 − PROBABILITY).

    It is drawn anew wherever it is needed, the same for the same seed (a pointer to an integer).
    """
    scale = (at * 0).to(ACC)
    if PROBABILITY == 0.0:
        scale += 1.0
    elif PROBABILITY < 1.0:
        scale += (tl.rand(tl.load(seed), at) >= PROBABILITY).to(ACC) * (1.0 / (1.0 - PROBABILITY))
    return scale
