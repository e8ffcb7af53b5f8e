"""Clocks of a GPU, locked for a run, and given back whatever ends it: a process of its own holds them.

Run as `python -m bench.probes.clock_lock DEVICE MHZ` it locks, says so, and waits until its standard input
ends, as it does with the process that holds the other end, even if that one is killed.
"""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pynvml

from bench.errors import UsageError
from bench.probes import nvml
from bench.system.signals import SIGNALS

LOCKED = "locked"


@contextlib.contextmanager
def locked_clocks(device: str, megahertz: int) -> Iterator[None]:
    """Within this context the SM clock of a device is fixed; then it is the driver's again.

    Raises UsageError if that is not permitted.
    """
    guard = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.probes.clock_lock", device, str(megahertz)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A Ctrl-C in the terminal reaches the run, and not what cleans up after it.
        start_new_session=True,
    )
    assert guard.stdin is not None, "it is a pipe"
    assert guard.stdout is not None, "it is a pipe"
    try:
        answer = guard.stdout.readline().strip()
        if answer != LOCKED:
            raise UsageError(f"--lock-clocks {megahertz}: {answer or 'clocks could not be locked'}")
        yield
    finally:
        guard.stdin.close()
        guard.wait()
        guard.stdout.close()


def _handle(device: str) -> object:
    """NVML's handle of a torch device, or of a UUID."""
    if not device.startswith("cuda"):
        return nvml.Nvml(device).handle
    driver, missing = nvml.open_device(device)
    if driver is None:
        sys.exit(_say(missing or "NVML tells nothing of this device"))
    return driver.handle


def _say(reason: str) -> int:
    print(f"{reason}; it takes root, or leave the option out", flush=True)
    return 1


def main() -> None:
    """Hold the clocks until standard input ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    device, megahertz = sys.argv[1], int(sys.argv[2])
    try:
        handle = _handle(device)
        pynvml.nvmlDeviceSetGpuLockedClocks(handle, megahertz, megahertz)
    except pynvml.NVMLError as error:
        sys.exit(_say(f"NVML: {error}"))
    try:
        print(LOCKED, flush=True)
        sys.stdin.read()
    finally:
        pynvml.nvmlDeviceResetGpuLockedClocks(handle)


if __name__ == "__main__":
    main()
