"""Clocks of a GPU, locked for a run, and given back whatever ends it: a process of its own holds them.

Run as `python -m bench.probes.clock_lock DEVICE MHZ PIPE` it locks, says so on that pipe, and waits until its
standard input ends, as it does with the process that holds the other end, even if that one is killed.
"""

import contextlib
import os
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
    answers, end = os.pipe()
    guard = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.probes.clock_lock", device, str(megahertz), str(end)],
        stdin=subprocess.PIPE,
        # What a library prints when it is imported is not an answer.
        stdout=subprocess.DEVNULL,
        pass_fds=(end,),
        # A Ctrl-C in the terminal reaches the run, and not what cleans up after it.
        start_new_session=True,
    )
    os.close(end)
    assert guard.stdin is not None, "it is a pipe"
    try:
        with open(answers, encoding="utf-8") as pipe:
            answer = pipe.readline().strip()
        if answer != LOCKED:
            raise UsageError(f"--lock-clocks {megahertz}: {answer or 'clocks could not be locked'}")
        yield
    finally:
        guard.stdin.close()
        guard.wait()


def _handle(device: str) -> object:
    """NVML's handle of a torch device, or of a UUID. Raises UsageError."""
    if not device.startswith("cuda"):
        return nvml.Nvml(device).handle
    driver, missing = nvml.open_device(device)
    if driver is None:
        raise UsageError(missing or "NVML tells nothing of this device")
    return driver.handle


def main() -> None:
    """Hold the clocks until standard input ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    device, megahertz, pipe = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(pipe, "w", encoding="utf-8") as answers:
        try:
            handle = _handle(device)
            pynvml.nvmlDeviceSetGpuLockedClocks(handle, megahertz, megahertz)
        except (pynvml.NVMLError, UsageError) as error:
            reason = f"NVML: {error}" if isinstance(error, pynvml.NVMLError) else str(error)
            answers.write(f"{reason}; it takes root, or leave the option out\n")
            sys.exit(1)
        try:
            # The reader may be gone already: the clocks are given back all the same.
            with contextlib.suppress(BrokenPipeError):
                answers.write(f"{LOCKED}\n")
                answers.flush()
            sys.stdin.read()
        finally:
            pynvml.nvmlDeviceResetGpuLockedClocks(handle)


if __name__ == "__main__":
    main()
