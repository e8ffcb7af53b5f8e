"""Products in Triton's interpreter with the rounding of a GPU's matrix units.

The interpreter multiplies float32 in full whatever `input_precision` says, and bfloat16, which it keeps as
integers, wrongly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import triton
from numpy.typing import NDArray

Float = NDArray[np.float32]


def tf32(x: Float) -> Float:
    """x to the nearest with 10 bits of mantissa, as `cvt.rna.tf32.f32` rounds."""
    return ((x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def in_three(a: Float, b: Float) -> Float:
    """a·b in three products of TF32: all but that of the two remainders."""
    high_a, high_b = tf32(a), tf32(b)
    low_a, low_b = tf32(a - high_a), tf32(b - high_b)
    small: Float = np.matmul(low_a, high_b) + np.matmul(high_a, low_b)
    return small + np.matmul(high_a, high_b)


@contextmanager
def matrix_units() -> Iterator[None]:
    """Within this context the interpreter's products are rounded so; on a GPU nothing changes."""
    if not triton.knobs.runtime.interpret:
        yield
        return
    from triton._C.libtriton import ir
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def create_dot(self: Any, a: Any, b: Any, d: Any, precision: Any, most_imprecise: int) -> Any:
        left, right = (_floats(operand) for operand in (a, b))
        if left.dtype != np.float32 or precision == ir.INPUT_PRECISION.IEEE:
            product = np.matmul(left, right, dtype=d.data.dtype)
        elif precision == ir.INPUT_PRECISION.TF32x3:
            product = in_three(left, right)
        else:
            product = np.matmul(tf32(left), tf32(right))
        return TensorHandle(product + d.data, d.dtype.scalar)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpreterBuilder, "create_dot", create_dot)
        yield


def _floats(operand: Any) -> NDArray[Any]:
    data = np.ascontiguousarray(operand.data)
    if str(operand.dtype.scalar) == "bf16":
        return (data.astype(np.uint32) << 16).view(np.float32)
    return data
