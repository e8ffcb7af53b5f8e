# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The smallest kernel, to try whether one runs."""

import triton
import triton.language as tl


@triton.jit
def add_one_kernel(value):
    tl.store(value, tl.load(value) + 1.0)
