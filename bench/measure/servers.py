"""Fork servers by job: blocks have a fresh one each, and those surely needed load side by side."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from bench.measure.procedure import Procedure
from bench.probes.limits import free_memory
from bench.suites.case import Case
from bench.system import processors
from bench.workers.forkserver import ForkServer

SERVER_BYTES = 300 << 20
"""Memory of a process that has loaded torch and forks."""
MEMORY_SHARE = 0.1
"""Share of the free memory that servers may take while they wait for their block."""


class Servers:
    """Fork servers of one run or gate on this machine.

    Loading torch takes seconds on one core. What lies where in memory is drawn afresh with each server, so
    that blocks have one each: but the first of them serves the cases alone as well, and as many as are
    surely needed are loaded at once, on all cores, before anything is timed.
    """

    def __init__(self, procedure: Procedure, cases: Sequence[Case], blocks: int) -> None:
        """cases: those measured, whose revisions are loaded. blocks: as many as surely come."""
        self.procedure = procedure
        self.cases = cases
        self.blocks = blocks
        self._waiting: list[ForkServer] = []
        self._current: ForkServer | None = None
        self._had_a_block = False

    def alone(self) -> ForkServer:
        """For a case alone."""
        if self._current is None:
            self._load_ahead()
            self._current = self._waiting.pop(0)
        return self._current

    def of_a_block(self) -> ForkServer:
        """For the next block: another than the last one's."""
        if self._had_a_block and self._current is not None:
            self._current.__exit__(None, None, None)
            self._current = self._waiting.pop(0) if self._waiting else self._new()
        self._had_a_block = True
        return self.alone()

    def _load_ahead(self) -> None:
        room = int(MEMORY_SHARE * free_memory() / SERVER_BYTES)
        count = max(1, min(self.blocks, processors.count(), room))
        self._waiting = [self._new() for _ in range(count)]
        for server in self._waiting:
            server.load(self.cases)
        for server in self._waiting:
            server.wait()

    def _new(self) -> ForkServer:
        return ForkServer(self.procedure.threads, self.procedure.sources)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in [*self._waiting, *([self._current] if self._current else [])]:
            server.__exit__(kind, error, trace)
