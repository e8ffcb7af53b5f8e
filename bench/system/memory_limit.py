"""A limit to the memory of this process, so that it fails before the machine swaps."""

import resource


def limit_memory(limit: int) -> None:
    """Let allocations fail cleanly before the machine swaps or the kernel kills something.

    limit: bytes beyond what this process has now. A lower limit set by the user (`ulimit -d`) stays.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    known = [size for size in (soft, hard) if size != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([_data_bytes() + limit, *known]), hard))


def _data_bytes() -> int:
    """Bytes that RLIMIT_DATA counts already, as inherited from the template; 0 if that is not known."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            sizes = [line.split()[1] for line in file if line.startswith("VmData:")]
    except OSError:
        return 0
    return int(sizes[0]) << 10 if sizes else 0
