"""Ctrl-C that waits for the step in flight."""

import signal
from types import FrameType, TracebackType


class Interrupts:
    """Within this context, a first SIGINT or SIGTERM only sets `requested`; a second is KeyboardInterrupt.

    A step that was cut off in the middle would leave parameters that are neither before nor after it.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "Interrupts":
        self._previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._previous:
            signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
