"""Ctrl-C and its like, while something is measured."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Whether somebody asked for an end.

    An exception that a signal raises within a destructor or a callback of Python's own (before and after a
    fork, for one) is dropped there: whoever asks again with `check` has it all the same.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    def check(self) -> None:
        """Raises KeyboardInterrupt where an end was asked for."""
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
        """A signal's handler."""
        self.requested = True
        if not self._deferred:
            raise KeyboardInterrupt


@contextlib.contextmanager
def termination_interrupts() -> Iterator[Interruption]:
    """Within this context a signal that ends a process is a KeyboardInterrupt, so that all is put in order;
    one that is ignored (SIGHUP under nohup) stays so.

    Only the main thread can be told of signals; a run in another one is left to those who started it.
    """
    interruption = Interruption()
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
