"""Errors of a full device or machine, told from others by their type or by what they say."""

import re

MESSAGES = re.compile(r"can't allocate memory|out of memory|_ALLOC_FAILED|_ALLOCATION_FAILED", re.IGNORECASE)
"""Messages of torch's allocators, the CUDA driver (which Triton repeats), cuBLAS, cuDNN and cuFFT. Triton's
"out of resource" is another matter: a kernel too big for any such GPU."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory was wanting."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return MESSAGES.search(str(error)) is not None
