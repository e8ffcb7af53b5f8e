"""The C library's allocator, told to keep what a training step frees for the next one."""

import ctypes
import functools
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
KEPT_BYTES = 1 << 30


@functools.cache
def keep_freed_memory() -> None:
    """Keep up to 1 GiB of freed memory in the process, large blocks included.

    By default glibc returns them to the kernel, which clears every page of them when they are next asked
    for: a tenth of a training step of thousands of time steps. Does nothing where there is no glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
