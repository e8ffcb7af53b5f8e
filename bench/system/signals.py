"""Ctrl-C, SIGTERM and a closed terminal: running work is put in order before the end."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Whether somebody asked for an end; a signal that asks for it raises KeyboardInterrupt.

    patient: a first signal only sets `requested`, for work whose steps must not be cut in two; a second one
    raises. A closing terminal may send SIGHUP twice, from the kernel and from the shell; that counts once.

    An exception that a signal raises within a destructor or a callback of Python's own (such as before and
    after a fork) is lost there; `check` raises it again.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.requested = False
        self._patient = patient
        self._deferred = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if an end was asked for."""
        if self.requested:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this context nothing is interrupted; KeyboardInterrupt is raised at its end."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        self.check()

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        waits = self._patient and (not self.requested or number == signal.SIGHUP)
        self.requested = True
        if not (waits or self._deferred):
            raise KeyboardInterrupt


@contextlib.contextmanager
def termination_interrupts(*, patient: bool = False) -> Iterator[Interruption]:
    """Within this context the signals that end a process go to the `Interruption` that it yields;
    an ignored signal (SIGHUP under nohup) stays ignored.

    Only the main thread gets signals; a run in another thread is left to those who started it.
    """
    interruption = Interruption(patient=patient)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interruption.handle)
    try:
        yield interruption
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
