"""A block: one fresh process per case; each round visits the cases in a random order, then in reverse."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from bench.measure.compilation import warm_up
from bench.measure.procedure import Procedure
from bench.records.run import Lost, Sample
from bench.records.solo import Solo
from bench.stats.allocation import Design
from bench.stats.disturbance import disturbance
from bench.workers.forkserver import ForkServer
from bench.workers.handle import WorkerFailed, WorkerProcess
from bench.workers.messages import Prepared, Time, Timed

TRIES = 3
"""A visit is made at most this often, until a run of it is not disturbed."""
REPEATED_SHARE = 0.5
"""Share of a block's visits that may be repeated: on a machine that is never quiet more would not help."""


class Place(NamedTuple):
    """A run's place in a block."""

    round: int
    visit: Literal[0, 1]
    position: int


@dataclass
class Block:
    """The cases of one group, timed side by side.

    Every round runs each case once, or as often as the design says, in an order drawn afresh, and then in its
    reverse, so that drift which is linear over the round cancels. Workers are resident if memory allows,
    and stopped when it is not their turn, so that no thread of theirs takes time from another's; else each
    visit has its own process.
    """

    procedure: Procedure
    number: int
    group: int
    solos: Sequence[Solo]
    design: Design
    random: np.random.Generator
    given: ForkServer | None = None
    """Server that its processes are forked from; None for one of its own."""

    def __post_init__(self) -> None:
        self.alive = list(self.solos)
        self.resident = self.procedure.fits(self.alive)
        self.workers: dict[str, WorkerProcess] = {}
        self.steps = {solo.case.id: self._steps(solo) for solo in self.solos}
        """Steps in a visit, by case."""
        visits = sum(self.design.visits_of(solo.case.id) for solo in self.solos)
        self.repeats = int(REPEATED_SHARE * visits)
        """Disturbed runs that may yet be repeated."""

    @property
    def has_room(self) -> bool:
        """Whether memory allows the block: workers that may not all be resident take turns."""
        return True

    def run(self) -> Generator[Sample | Lost, None, None]:
        """Every timed run as it is made, and every case that failed."""
        with ExitStack() as stack:
            self.server = self.given or stack.enter_context(
                ForkServer(self.procedure.threads, self.procedure.sources)
            )
            if self.resident:
                yield from self._start(stack)
            for round_number in range(self.design.rounds):
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
        if solo.case.id not in self.workers:
            return
        worker = self.workers[solo.case.id]
        worker.receive(Prepared, self.procedure.deadline_seconds)
        worker.stop()

    def _warm(self, solo: Solo) -> None:
        if solo.case.id not in self.workers:
            return
        with self.workers[solo.case.id].awake() as worker:
            warm_up(worker, self.procedure, solo)

    def _round(self, round_number: int) -> Iterator[Sample | Lost]:
        visits = [solo for solo in self.alive for _ in range(self.design.visits.get(solo.case.id, 1))]
        order = [visits[index] for index in self.random.permutation(len(visits))]
        for position, solo in enumerate([*order, *reversed(order)]):
            if solo in self.alive:
                place = Place(round_number, 0 if position < len(order) else 1, position)
                yield from self._until_quiet(partial(self._visit, solo, place))

    def _until_quiet(
        self, visit: Callable[[int], Iterator[Sample | Lost]], runs: int = 1
    ) -> Iterator[Sample | Lost]:
        """A visit of so many runs, by number of the attempt; repeated at once if disturbed, within limits."""
        for attempt in range(TRIES):
            found = list(visit(attempt))
            yield from found
            disturbed = any(isinstance(record, Sample) and record.disturbed_by for record in found)
            if not disturbed or attempt == TRIES - 1 or self.repeats < runs:
                return
            self.repeats -= runs

    def _visit(self, solo: Solo, place: Place, attempt: int) -> Iterator[Sample | Lost]:
        def sample(solo: Solo) -> Sample:
            timed = self._time(solo)
            return self._sample(solo, timed, place, attempt, disturbance(timed.conditions, timed.throttled))

        yield from self._guarded(solo, sample)

    def _sample(
        self, solo: Solo, timed: Timed, place: Place, attempt: int, disturbed_by: str | None
    ) -> Sample:
        return Sample(
            case_id=solo.case.id,
            block=self.number,
            group=self.group,
            round=place.round,
            visit=place.visit,
            position=place.position,
            steps=self.steps[solo.case.id],
            seconds=timed.seconds,
            activation=timed.activation,
            throttled=timed.throttled,
            gpu=timed.gpu,
            waited_seconds=timed.waited_seconds,
            aside_seconds=timed.aside_seconds,
            step_deviation=timed.step_deviation,
            conditions=timed.conditions,
            disturbed_by=disturbed_by,
            attempt=attempt,
        )

    def _time(self, solo: Solo) -> Timed:
        steps = self.steps[solo.case.id]
        question, deadline = Time(steps), self.procedure.run_deadline_seconds(solo, steps)
        if self.resident:
            with self.workers[solo.case.id].awake() as worker:
                return worker.ask(question, Timed, deadline)
        with self.server.start(solo.case) as worker:
            worker.ask(self.procedure.prepare(solo.case), Prepared, self.procedure.deadline_seconds)
            warm_up(worker, self.procedure, solo)
            return worker.ask(question, Timed, deadline)

    def _steps(self, solo: Solo) -> int:
        return max(self.procedure.steps(solo), self.design.steps.get(solo.case.id, 1))

    def _guarded(self, solo: Solo, action: Callable[[Solo], Sample | None]) -> Iterator[Sample | Lost]:
        """A failure costs only its own case; the others continue."""
        try:
            sample = action(solo)
        except WorkerFailed as failure:
            if failure.status == "oom" and self._take_turns():
                yield from self._guarded(solo, action)
                return
            self.alive.remove(solo)
            worker, printed = self.workers.get(solo.case.id), failure.printed
            if worker is not None:
                printed = worker.printed
                worker.kill()
            yield Lost(
                case_id=solo.case.id,
                block=self.number,
                status=failure.status,
                reason=failure.reason,
                traceback=failure.traceback,
                printed=printed,
            )
        else:
            if sample is not None:
                yield sample

    def _take_turns(self) -> bool:
        """From now on one worker at a time has a GPU that is too small for all; False if it did before."""
        if not self.resident or self.procedure.kind != "cuda" or len(self.workers) < 2:
            return False
        for worker in self.workers.values():
            worker.kill()
        self.workers.clear()
        self.resident = False
        return True
