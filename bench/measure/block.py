"""A block: one fresh process per case; each round visits the cases in a random order, then in reverse."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Literal

import numpy as np

from bench.measure.procedure import Procedure
from bench.records.run import Lost, Sample, Solo
from bench.workers.forkserver import ForkServer
from bench.workers.handle import WorkerFailed, WorkerProcess
from bench.workers.messages import Prepared, Time, Timed, Warmed

DEADLINE_FACTOR = 20
"""A run that takes this many times longer than its solo pass foretold has hung."""


class Block:
    """The cases of one group, timed side by side.

    Every round runs each case once in an order drawn afresh and once in its reverse, so that drift which
    is linear over the round cancels. Workers are resident where memory allows, and stopped when it is not
    their turn, so that no thread of theirs takes time from another's; else each visit has its own process.
    """

    def __init__(
        self,
        procedure: Procedure,
        number: int,
        group: int,
        solos: list[Solo],
        rounds: int,
        random: np.random.Generator,
    ) -> None:
        self.procedure = procedure
        self.number = number
        self.group = group
        self.alive = list(solos)
        self.rounds = rounds
        self.random = random
        self.resident = procedure.fits(solos)
        self.workers: dict[str, WorkerProcess] = {}

    def run(self) -> Generator[Sample | Lost, None, None]:
        """Every timed run as it is made, and every case that failed."""
        with ExitStack() as stack:
            self.server = stack.enter_context(ForkServer(self.procedure.threads, self.procedure.sources))
            if self.resident:
                yield from self._start(stack)
            for round_number in range(self.rounds):
                yield from self._round(round_number)

    def _start(self, stack: ExitStack) -> Iterator[Sample | Lost]:
        """Start every process, let them build together, then warm them one at a time."""
        self.server.load(solo.case for solo in self.alive)
        for solo in list(self.alive):
            yield from self._guarded(solo, lambda s: self._begin(s, stack))
        for solo in list(self.alive):
            yield from self._guarded(solo, self._await_prepared)
        for solo in list(self.alive):
            yield from self._guarded(solo, self._warm)

    def _begin(self, solo: Solo, stack: ExitStack) -> None:
        worker = stack.enter_context(self.server.start(solo.case))
        self.workers[solo.case.id] = worker
        worker.send(self.procedure.prepare(solo.case))

    def _await_prepared(self, solo: Solo) -> None:
        worker = self.workers[solo.case.id]
        worker.receive(Prepared, self.procedure.deadline_seconds)
        worker.stop()

    def _warm(self, solo: Solo) -> None:
        with self.workers[solo.case.id].awake() as worker:
            worker.ask(self.procedure.block_warm_up(solo), Warmed, self.procedure.deadline_seconds)

    def _round(self, round_number: int) -> Iterator[Sample | Lost]:
        order = [self.alive[index] for index in self.random.permutation(len(self.alive))]
        for position, solo in enumerate([*order, *reversed(order)]):
            if solo in self.alive:
                visit: Literal[0, 1] = 0 if position < len(order) else 1
                yield from self._guarded(
                    solo,
                    lambda s, v=visit, p=position: self._visit(s, round_number, v, p),  # type: ignore[misc]
                )

    def _visit(self, solo: Solo, round_number: int, visit: Literal[0, 1], position: int) -> Sample:
        timed = self._time(solo)
        return Sample(
            case_id=solo.case.id,
            block=self.number,
            group=self.group,
            round=round_number,
            visit=visit,
            position=position,
            steps=self.procedure.steps(solo),
            seconds=timed.seconds,
            activation=timed.activation,
            throttled=timed.throttled,
            waited_seconds=timed.waited_seconds,
            disturbed=timed.disturbed,
            aside_seconds=timed.aside_seconds,
        )

    def _time(self, solo: Solo) -> Timed:
        question = Time(self.procedure.steps(solo))
        expected = question.steps * (solo.step_seconds or 0)
        deadline = max(self.procedure.deadline_seconds, DEADLINE_FACTOR * expected)
        if self.resident:
            with self.workers[solo.case.id].awake() as worker:
                return worker.ask(question, Timed, deadline)
        with self.server.start(solo.case) as worker:
            worker.ask(self.procedure.prepare(solo.case), Prepared, self.procedure.deadline_seconds)
            worker.ask(self.procedure.block_warm_up(solo), Warmed, self.procedure.deadline_seconds)
            return worker.ask(question, Timed, deadline)

    def _guarded(self, solo: Solo, action: Callable[[Solo], Sample | None]) -> Iterator[Sample | Lost]:
        """A failure costs its own case only; the others go on."""
        try:
            sample = action(solo)
        except WorkerFailed as failure:
            self.alive.remove(solo)
            if solo.case.id in self.workers:
                self.workers[solo.case.id].kill()
            case_id = solo.case.id
            yield Lost(case_id=case_id, block=self.number, status=failure.status, reason=failure.reason)
        else:
            if sample is not None:
                yield sample
