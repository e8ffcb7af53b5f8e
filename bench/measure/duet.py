"""A duet: two cases at the same time, each on its own half of the cores, which they exchange within a round.

What disturbs the machine then disturbs both alike, and leaves their ratio alone (Bulej et al., Duet
benchmarking: improving measurement accuracy in the cloud, ICPE 2020).
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import msgspec

from bench.measure.block import Block, Place
from bench.measure.compilation import warm_up_deadline
from bench.measure.pairing import Cores
from bench.measure.procedure import Procedure
from bench.records.run import Lost, Sample
from bench.records.solo import Solo
from bench.stats.disturbance import disturbance
from bench.system.processors import Processors
from bench.workers.messages import KeepTo, KeptTo, Prepared, Question, Time, Timed, Warmed

LEAD_SECONDS = 0.005
"""From the order to the moment at which both begin."""
LATE_SHARE = 0.01
"""Share of the shorter run that one side may begin before the other."""
NO_ROOM = "memory is too small for two models at the same time; --pairing turns needs room for one"

A = TypeVar("A", bound=msgspec.Struct)


@dataclass
class Duet(Block):
    """A block of two cases.

    Each round has two visits; in the second one the cases have exchanged their cores. Both begin at one
    moment, and whichever ends first continues with steps that nobody times until the other has ended.
    """

    cores: Cores | None = None
    """Cores to share; by default all that this process may use."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.halves = (self.cores or Cores.of_this_process()).halves(self.procedure.threads)
        self.steps = steps_of(self.procedure, self.solos)

    @property
    def has_room(self) -> bool:
        """Whether memory has room for both at the same time."""
        return self.resident

    def run(self) -> Generator[Sample | Lost, None, None]:
        """Every timed run as it is made, and every case that failed; nothing without a pair."""
        if not self._is_whole:
            return
        if not self.has_room:
            case_id = self.alive[1].case.id
            yield Lost(case_id=case_id, block=self.number, status="oom", reason=NO_ROOM)
            return
        yield from super().run()

    def _start(self, stack: ExitStack) -> Iterator[Sample | Lost]:
        """Start both, and let them build and warm up side by side."""
        self.server.load(solo.case for solo in self.alive)
        for solo in list(self.alive):
            yield from self._guarded(solo, lambda s: self._begin(s, stack))
        yield from self._receive(Prepared, {})
        if self._is_whole:
            yield from self._settle(self.halves)
            yield from self._ask(self.procedure.block_warm_up, Warmed, {}, self._warm_up_deadline)

    def _round(self, round_number: int) -> Iterator[Sample | Lost]:
        first = int(self.random.integers(2))
        visits: tuple[Literal[0, 1], ...] = (0, 1)
        for visit in visits:
            halves = self.halves if (first + visit) % 2 == 0 else self.halves[::-1]
            yield from self._until_quiet(partial(self._visit_both, round_number, visit, halves), runs=2)

    def _visit_both(
        self, round_number: int, visit: Literal[0, 1], halves: tuple[Processors, Processors], attempt: int
    ) -> Iterator[Sample | Lost]:
        """One run of each, at the same time."""
        if not self._is_whole:
            return
        answers: dict[str, Timed] = {}
        yield from self._settle(halves)
        moment = time.monotonic() + LEAD_SECONDS
        yield from self._ask(lambda solo: Time(self.steps[solo.case.id], moment, go_on=True), Timed, answers)
        if self._is_whole:
            runs = [answers[solo.case.id] for solo in self.alive]
            why = disturbances(*runs)
            for number, half in enumerate(halves):
                place = Place(round_number, visit, 2 * visit + self.halves.index(half))
                sample = self._sample(self.alive[number], runs[number], place, attempt, why[number])
                alone = max(0.0, runs[1 - number].began - runs[number].began)
                yield msgspec.structs.replace(sample, processors=list(half), alone_seconds=alone)

    def _warm_up_deadline(self, solo: Solo) -> float:
        """Seconds that a warm-up may take: no less than a run, and time to compile in."""
        run = self._run_deadline(solo)
        return max(run, warm_up_deadline(solo.case, self.procedure))

    def _run_deadline(self, solo: Solo) -> float:
        """Seconds that a run may take: whichever side ends first continues until the other has ended."""
        return max(self.procedure.run_deadline_seconds(s, self.steps[s.case.id]) for s in self.solos)

    @property
    def _is_whole(self) -> bool:
        """Whether both sides are there: one alone has no duet."""
        return len(self.alive) == 2

    def _settle(self, halves: tuple[Processors, Processors]) -> Iterator[Sample | Lost]:
        own = {solo.case.id: list(half) for solo, half in zip(self.alive, halves, strict=True)}
        yield from self._ask(lambda solo: KeepTo(own[solo.case.id]), KeptTo, {})

    def _ask(
        self,
        question: Callable[[Solo], Question],
        expected: type[A],
        answers: dict[str, A],
        deadline: Callable[[Solo], float] | None = None,
    ) -> Iterator[Sample | Lost]:
        """Ask both before either has answered; their answers, by case, are put into `answers`.

        deadline: seconds that an answer may take, by default those of a run.
        """
        for solo in list(self.alive):
            yield from self._guarded(solo, lambda s: self.workers[s.case.id].send(question(s)))
        yield from self._receive(expected, answers, deadline)

    def _receive(
        self,
        expected: type[A],
        answers: dict[str, A],
        deadline: Callable[[Solo], float] | None = None,
    ) -> Iterator[Sample | Lost]:
        seconds = deadline or self._run_deadline

        def receive(solo: Solo) -> None:
            answers[solo.case.id] = self.workers[solo.case.id].receive(expected, seconds(solo))

        for solo in list(self.alive):
            yield from self._guarded(solo, receive)


def steps_of(procedure: Procedure, solos: Sequence[Solo]) -> dict[str, int]:
    """Steps in a run of each: the same work for two revisions of one case; the same time for two models, that
    of the one whose least number takes longer."""
    least = {solo.case.id: procedure.steps(solo) for solo in solos}
    alike = {msgspec.structs.replace(solo.case, revision=None) for solo in solos}
    if len(alike) == 1:
        return dict.fromkeys(least, procedure.steps(solos[0]))
    longest = max(least[solo.case.id] * (solo.step_seconds or 0) for solo in solos)
    return {
        solo.case.id: max(least[solo.case.id], math.ceil(longest / (solo.step_seconds or math.inf)))
        for solo in solos
    }


def disturbances(one: Timed, other: Timed) -> tuple[str | None, str | None]:
    """Why two runs at the same time do not count, in words; both or neither does: what disturbed one left the
    other alone."""
    own = [disturbance(run.conditions, run.throttled) for run in (one, other)]
    apart = abs(one.began - other.began)
    if apart > LATE_SHARE * min(one.seconds, other.seconds):
        own = [why or f"began {apart:.2g} s apart from the run beside it" for why in own]
    first, second = own
    return (
        first or (second and f"the run beside it was disturbed: {second}"),
        second or (first and f"the run beside it was disturbed: {first}"),
    )


def kind_of_block(procedure: Procedure) -> type[Block]:
    """The kind of block that times pairs as the procedure has them."""
    return Duet if procedure.is_duet else Block
