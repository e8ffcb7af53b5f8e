"""The allocator of a worker's memory: the same for every model, and recorded.

By default glibc hands large blocks back to the kernel when they are freed, and the kernel clears each of
their pages when they are next asked for. A step pays for that by how much it allocates (over a third of a
Transformer's time at 4K); it changes with the state of the machine's memory, and is not the model's doing.
Workers keep what is freed, as torch's own allocator does on a GPU.
"""

import ctypes
import os
import platform

KEEP_FREED_MEMORY = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        "glibc.malloc.mmap_max=0",
        "glibc.malloc.trim_threshold=1000000000000",
    )
)
"""Settings: huge pages if the kernel has them, no block mapped by itself, nothing given back."""
M_MMAP_MAX, GLIBC_MMAP_MAX = -4, 1 << 16
"""The parameter's number in malloc.h, and its value by default."""


def worker_variables() -> dict[str, str]:
    """Environment variables of a worker; none if the user has chosen an allocator or its settings."""
    return {} if _of_the_user() else {"GLIBC_TUNABLES": KEEP_FREED_MEMORY}


def description() -> str:
    """Name and settings of a worker's allocator, for the record."""
    chosen = _of_the_user()
    if chosen:
        return f"as set by {', '.join(chosen)}"
    library = platform.libc_ver()[0]
    return "glibc, freed memory kept" if library == "glibc" else f"{library or 'system'}, default settings"


def give_back() -> None:
    """Hand free memory back to the kernel, and from now on large blocks as they are freed.

    For work that is not timed: a heap that keeps everything is full of holes, and may take twice the memory
    of its tensors.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):
        library.mallopt(M_MMAP_MAX, GLIBC_MMAP_MAX)
        library.malloc_trim(0)


def _of_the_user() -> list[str]:
    return [
        f"{name}={value}"
        for name, value in sorted(os.environ.items())
        if name in ("GLIBC_TUNABLES", "LD_PRELOAD") or name.startswith("MALLOC_")
    ]
