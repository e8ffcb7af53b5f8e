"""Carrying out one gate: exact costs, a first stage of blocks, a second one for what that left open."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from types import TracebackType

import numpy as np

from bench.errors import UsageError
from bench.gate.groups import against_itself, control_of, groups_of
from bench.gate.revisions import Revision, absent, at
from bench.gate.rules import Rules
from bench.gate.verdicts import (
    REVISIONS,
    CaseVerdict,
    Pair,
    is_settled,
    judge,
    judge_exactly,
    judge_gone,
    judge_new,
)
from bench.measure.display import PlainDisplay
from bench.measure.duet import NO_ROOM, kind_of_block
from bench.measure.imports import failed_imports, plugged_in
from bench.measure.procedure import Procedure
from bench.measure.progress import Progress
from bench.measure.recorder import Recorder
from bench.measure.servers import Servers
from bench.measure.solo import measure_exact, measure_solo
from bench.probes.surroundings import read_surroundings
from bench.records.run import End, StopReason
from bench.records.solo import Solo
from bench.records.writing import ResultFile
from bench.stats.allocation import Design
from bench.stats.intervals import ratio_interval
from bench.suites.case import Case
from bench.workers.forkserver import ForkServer

SECOND_STAGE_FACTOR = 2
"""A case that stays open gets this many times the first stage's blocks on top, all of fresh processes."""

FIRST_STAGE_SHARE = 0.5
"""Share of the time left for which the rounds of the first stage are chosen: the second one needs as much."""

ROUNDS = 9
"""Rounds per block of a gate, if the budget allows: enough for the median to resist bursts of other work."""

Verdicts = tuple[list[CaseVerdict], CaseVerdict | None]
"""Verdicts of the suite's cases in their order, and of the control if anything was timed."""


class Gate:
    """Carries out one gate, writing every record as it is made."""

    def __init__(
        self, procedure: Procedure, file: ResultFile, observer: PlainDisplay, rules: Rules, blocks: int
    ) -> None:
        """blocks: of the first stage; 0 if nothing is timed."""
        self.procedure = procedure
        self.observer = observer
        self.recorder = Recorder(file, observer)
        self.found = self.recorder.found
        self.rules = rules
        self.blocks = blocks
        self.begin = time.monotonic()
        self.random = np.random.default_rng()
        self.next_block = 0
        self.share = 1.0
        """Share of the remaining time that this gate may take: others may take turns with it."""
        self.overrun = 0.0
        """Most seconds that a block of one group took beyond those foretold."""
        self.without_room = 0
        """Blocks of one group that were left out, since memory had become too small for both of its sides."""
        self.timed_seconds = 0.0
        """Seconds that all blocks took."""
        self.stopped: StopReason = "blocks"
        """Why the last blocks ended."""
        self.cases = procedure.suite.cases(procedure.kind)
        self.decided: dict[Case, CaseVerdict] = {}
        """Verdicts of cases that need not be measured."""
        loaded = [at(case, revision) for revision in REVISIONS for case in self.cases]
        self.servers = Servers(procedure, loaded, blocks)

    def __enter__(self) -> "Gate":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.servers.__exit__(kind, error, trace)

    @property
    def open_cases(self) -> list[Case]:
        return [case for case in self.cases if case not in self.decided]

    def exactly(self, base: Revision, head: Revision) -> Verdicts:
        """Judge by exact costs alone, without noise. Raises UsageError if code is of neither revision."""
        self._decide_absent(base, head)
        cases = self.open_cases
        for case, pair in zip(cases, self.pairs(base, head, exact=True), strict=True):
            self.decided[case] = judge_exactly(pair, self.rules.of(case.implementation))
        self.end("precise")
        return self._verdicts(), None

    def run(self, base: Revision, head: Revision) -> Verdicts:
        """Judge by exact costs, then by a first stage of blocks, then by a second one for what stays open.

        Raises UsageError if code is of neither revision.
        """
        self._decide_absent(base, head)
        cases = self.open_cases
        pairs = self.pairs(base, head)
        timed = [pair for pair in pairs if pair.base.status == pair.other.status == "ok"]
        counted = [pair for pair in timed if pair.base.case.implementation not in self.rules.ignored]
        control = control_of(counted)
        everything = [*timed, *([control] if control else [])]
        reason = self.time(everything, self.blocks, FIRST_STAGE_SHARE)
        family = max(1, len(counted))
        still_open = [pair for pair in timed if not is_settled(self._judge(pair), family)]
        if control and not self._is_decided(pairs) and not is_settled(self._judge(control), family):
            still_open.append(control)
        if still_open:
            reason = self.time(still_open, SECOND_STAGE_FACTOR * self.blocks)
        self.end(reason)
        self.decided |= {case: self._judge(pair) for case, pair in zip(cases, pairs, strict=True)}
        return self._verdicts(), self._judge(control) if control else None

    def with_itself(self) -> list[Pair]:
        """Each case that runs, twice: identical code."""
        base, _, control = REVISIONS
        solos = self._solos(base, self._failed_imports(base))
        return [against_itself(solo, control) for solo in solos if solo.status == "ok"]

    def locate(self, base: Revision, head: Revision) -> dict[tuple[str, str], str]:
        """Why a revision does not have an implementation, by the names of both.

        Raises UsageError if neither has it, or if its code is of no revision.
        """
        return absent(self.procedure, self.servers.alone(), [base, head], self.open_cases)

    def pairs(self, base: Revision, head: Revision, exact: bool = False) -> list[Pair]:
        """Measure every open case alone, on both sides; without a clock if only exact costs are asked for."""
        names = (base.name, head.name)
        broken = [solo for name in names for solo in self._failed_imports(name)]
        solos = (self._solos(name, broken, exact) for name in names)
        return [Pair(*pair) for pair in zip(*solos, strict=True)]

    def time(self, pairs: Sequence[Pair], blocks: int, share: float = 1.0) -> StopReason:
        """Time blocks of fresh processes, as many as asked for or as the budget allows; see `each_block`."""
        for _ in self.each_block(pairs, blocks, share):
            pass
        return self.stopped

    def each_block(self, pairs: Sequence[Pair], blocks: int, share: float = 1.0) -> Iterator[None]:
        """The same, block by block, so that something else can be done in between.

        share: of the time left, for which their rounds are chosen. No block is begun for which there is no
        time with as many rounds as its value needs.
        """
        self.stopped = "blocks"
        first = time.monotonic()
        groups = self._groups(pairs)
        kept = (1 - share) * self._own_seconds_left()
        for done in range(blocks):
            begin = time.monotonic()
            if self._own_seconds_left() < sum(map(self._least_seconds, groups)):
                self.stopped = "budget"
                return
            server = self.servers.of_a_block()
            for number, group in enumerate(groups):
                self._tell_progress(pairs, done + number / len(groups), blocks, begin - first)
                to_come = len(groups) * (blocks - done) - number
                self._block(number, group, (self._own_seconds_left() - kept) / to_come, server)
            self.next_block += 1
            self.timed_seconds += time.monotonic() - begin
            yield

    def _tell_progress(self, pairs: Sequence[Pair], done: float, blocks: int, seconds: float) -> None:
        """done: blocks of this stage. seconds: that the whole ones of them took."""
        left, total = None, blocks
        if done >= 1:
            takes = seconds / math.floor(done)
            possible = math.floor(done + self.procedure.seconds_left(self.begin) / takes)
            total = min(blocks, max(math.ceil(done), possible))
            left = (total - done) * takes
        values = [pair.slowdowns(self.found.samples) for pair in pairs]
        widest = max(
            (ratio_interval(some).half_width if some else math.inf for some in values), default=math.inf
        )
        self.observer.progress(Progress(done, total, left, None if math.isinf(widest) else widest))

    def end(self, reason: StopReason) -> None:
        seconds = time.monotonic() - self.begin
        self.recorder.file.append(End(reason=reason, seconds=seconds, surroundings=read_surroundings()))

    def _verdicts(self) -> list[CaseVerdict]:
        return [self.rules.applied(self.decided[case]) for case in self.cases]

    def _is_decided(self, pairs: Iterable[Pair]) -> bool:
        """Whether the gate's verdict is certain without a clock: then the control has no say in it."""
        known = [*map(self.rules.applied, self.decided.values()), *map(self._judge, pairs)]
        return any(
            case.without_clock and case.verdict == "REGRESSED" and case.ignored is None for case in known
        )

    def _judge(self, pair: Pair) -> CaseVerdict:
        limits = self.rules.of(pair.base.case.implementation)
        return self.rules.applied(judge(pair, self.found.samples, self.found.lost.values(), limits))

    def _decide_absent(self, base: Revision, head: Revision) -> None:
        """Decide what only one of the revisions has."""
        missing = self.locate(base, head)
        for case in self.open_cases:
            gone = missing.get((head.name, case.implementation))
            if gone is not None:
                self.decided[case] = judge_gone(case, gone)
            elif (base.name, case.implementation) in missing:
                solo = self._kept(measure_exact(at(case, head.name), self.procedure, self.servers.alone()))
                self.decided[case] = judge_new(solo)

    def _failed_imports(self, revision: str) -> list[Solo]:
        """Failures of the imports of every model: none runs before all could be imported."""
        models = plugged_in(at(case, revision) for case in self.open_cases)
        return [
            self._kept(solo)
            for cases in models
            for solo in failed_imports(cases, self.procedure, self.servers.alone())
        ]

    def _solos(self, revision: str, broken: Iterable[Solo], exact: bool = False) -> list[Solo]:
        """broken: cases that are not tried, since their models can't be imported."""
        found = {solo.case: solo for solo in broken}
        for case in (at(case, revision) for case in self.open_cases):
            if case not in found:
                alone = (
                    measure_exact(case, self.procedure, self.servers.alone())
                    if exact
                    else measure_solo(case, self.procedure, self.servers.alone(), exact=True)
                )
                found[case] = self._kept(alone)
        return [found[at(case, revision)] for case in self.open_cases]

    def _kept(self, solo: Solo) -> Solo:
        self.recorder.take(solo)
        return solo

    def _block(self, number: int, group: Sequence[Solo], seconds: float, server: ForkServer) -> None:
        alive = self._alive(group)
        if len(alive) < 2:
            return
        rounds = self._rounds(alive, seconds)
        where, begin = f"length {alive[0].case.length}", time.monotonic()
        block = kind_of_block(self.procedure)(
            self.procedure, self.next_block, number, alive, Design(rounds), self.random, server
        )
        if not block.has_room:
            # Memory that something else has taken meanwhile is no fault of head's.
            self.without_room += 1
            self.observer.notice(f"block {self.next_block + 1} at {where} is left out: {NO_ROOM}")
            return
        self.observer.block_begins(self.next_block, where, rounds)
        with closing(block.run()) as records:
            for record in records:
                # A revision that fails while it is timed costs only its own comparison.
                self.recorder.take(record)
        took = time.monotonic() - begin
        self.overrun = max(self.overrun, took - self.procedure.block_seconds(alive, rounds))

    def _rounds(self, alive: list[Solo], seconds: float) -> int:
        """Rounds of a block of so many seconds; as many as its value needs at least."""
        fitting = self.procedure.rounds_within(alive, seconds - self.overrun)
        return max(fitting, min(self.procedure.rounds_wanted, self.procedure.max_rounds))

    def _least_seconds(self, group: Sequence[Solo]) -> float:
        """Seconds that a block of a group takes at least."""
        alive = self._alive(group)
        if len(alive) < 2:
            return 0.0
        return self.overrun + self.procedure.block_seconds(alive, self._rounds(alive, 0.0))

    def _alive(self, group: Sequence[Solo]) -> list[Solo]:
        return [solo for solo in group if solo.case.id not in self.found.lost]

    def _groups(self, pairs: Iterable[Pair]) -> list[list[Solo]]:
        """Cases that are timed together. Raises UsageError if no block of a duet will have the memory."""
        groups = groups_of(pairs, self.procedure)
        if self.procedure.is_duet and self.next_block == 0:
            for group in groups:
                if not self.procedure.fits(group):
                    raise UsageError(f"--pairing duet: {group[0].case.implementation}: {NO_ROOM}")
        return groups

    def _own_seconds_left(self) -> float:
        return self.share * self.procedure.seconds_left(self.begin)
