"""`bench regress`: two revisions side by side, every case interleaved with its older self."""

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.errors import UsageError
from bench.gate.verdicts import (
    REVISIONS,
    CaseVerdict,
    Comparison,
    GateReport,
    Limits,
    conclude,
    is_settled,
    judge,
    judge_exactly,
)
from bench.measure.block import Block
from bench.measure.display import PlainDisplay, open_display
from bench.measure.procedure import Plan
from bench.measure.session import Request, load_suite, make_header
from bench.measure.solo import measure_exact, measure_solo
from bench.probes.environment import probe_environment
from bench.records.run import End, Lost, Sample, Solo, StopReason
from bench.records.writing import ResultFile
from bench.stats.intervals import MIN_BLOCKS
from bench.suites.case import Case
from bench.suites.suite import Suite
from bench.system.git import WORKTREE, Repository
from bench.system.signals import termination_interrupts
from bench.text.units import parse_duration, parse_percentage
from bench.workers.forkserver import Nursery

SECOND_STAGE_FACTOR = 2
"""A case that stays open gets this many times the first stage's blocks more, all of fresh processes."""

ROUNDS = 9
"""In a block of a gate, where the budget allows: enough for the median to shrug off bursts of other work."""


@dataclass(frozen=True)
class GateRequest:
    """What the user asked for."""

    base: str
    out: Path
    head: str = WORKTREE
    suite: str = "ci"
    margin: str = "1%"
    tolerance: str = "3%"
    blocks: int = 5
    budget: str = "15m"
    device: str = "auto"
    threads: int | None = None
    exact: bool = False
    """Only what needs no clock."""
    overrides: dict[str, Any] = field(default_factory=dict)
    repository: Path = Path(".")


def regress(request: GateRequest) -> GateReport:
    """Measure both revisions and decide. Raises UsageError where nothing could be measured at all."""
    limits = _limits(request)
    suite = gate_suite(request.suite, request.overrides, request.budget)
    repository = Repository.around(request.repository)
    commits = {"base": repository.commit(request.base), "head": repository.commit(request.head)}
    environment = probe_environment(request.device, request.threads)
    with (
        termination_interrupts() as interruption,
        repository.check_out(commits) as sources,
        ResultFile(request.out, interruption.deferred) as store,
        open_display(suite.budget_seconds) as display,
    ):
        store.append(make_header(suite, environment, commits))
        plan = Plan(
            suite,
            environment.device,
            environment.threads,
            environment.memory_bytes,
            sources=sources | {"control": sources["base"]},
        )
        gate = Gate(plan, store, display, limits, request.blocks)
        cases, control = gate.exactly() if request.exact else gate.run()
    if all(case.verdict == "INCONCLUSIVE" and case.blocks == 0 for case in cases):
        # A gate that measured nothing has failed, not passed.
        raise UsageError(f"nothing could be compared: {cases[0].model} {cases[0].reason}")
    return conclude(cases, control, limits, commits["base"], commits["head"])


def gate_suite(name: str, overrides: dict[str, Any], budget: str) -> Suite:
    """A suite with a gate's rounds and budget. Raises UsageError."""
    suite = load_suite(Request(name, Path(), overrides, budget=budget))
    timing = msgspec.structs.replace(suite.timing, max_rounds=ROUNDS)
    return msgspec.structs.replace(suite, timing=timing)


def _limits(request: GateRequest) -> Limits:
    try:
        limits = Limits(
            margin=parse_percentage(request.margin), tolerance=parse_percentage(request.tolerance)
        )
        parse_duration(request.budget)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if limits.tolerance < limits.margin:
        raise UsageError(f"--tolerance {request.tolerance} lies below --margin {request.margin}")
    if request.blocks < MIN_BLOCKS:
        raise UsageError(f"--blocks {request.blocks}: bounds need at least {MIN_BLOCKS} blocks")
    return limits


class Gate:
    """Carries out one gate, writing every record as it is made."""

    def __init__(
        self, plan: Plan, store: ResultFile, observer: PlainDisplay, limits: Limits, blocks: int
    ) -> None:
        self.plan = plan
        self.store = store
        self.observer = observer
        self.limits = limits
        self.blocks = blocks
        self.samples: list[Sample] = []
        self.lost: list[Lost] = []
        self.begin = time.monotonic()
        self.random = np.random.default_rng()
        self.next_block = 0

    def exactly(self) -> tuple[list[CaseVerdict], None]:
        """The tier without noise alone."""
        with Nursery(self.plan) as nursery:
            pairs = [
                Comparison(*(self._kept(measure_exact(case, self.plan, nursery)) for case in pair))
                for pair in _pairs(self.plan)
            ]
        self._end("precise")
        return [judge_exactly(pair, self.limits) for pair in pairs], None

    def run(self) -> tuple[list[CaseVerdict], CaseVerdict | None]:
        """Exact costs, then a first stage of blocks, then a second one for what it left open."""
        base, head, _ = REVISIONS
        pairs = [Comparison(*pair) for pair in zip(self._solos(base), self._solos(head), strict=True)]
        timed = [pair for pair in pairs if pair.base.status == pair.other.status == "ok"]
        control = _control(timed)
        everything = [*timed, *([control] if control else [])]
        reason = self._stage(everything, self.blocks)
        still_open = [pair for pair in everything if not is_settled(self._judge(pair), len(timed))]
        if still_open:
            reason = self._stage(still_open, SECOND_STAGE_FACTOR * self.blocks)
        self._end(reason)
        return [self._judge(pair) for pair in pairs], self._judge(control) if control else None

    def against_itself(self) -> dict[Case, list[float]]:
        """Per case, the log ratios of blocks that time identical code twice."""
        base, _, control = REVISIONS
        pairs = [_against_itself(solo, control) for solo in self._solos(base) if solo.status == "ok"]
        self._end(self._stage(pairs, self.blocks))
        return {pair.base.case: pair.slowdowns(self.samples) for pair in pairs}

    def _judge(self, pair: Comparison) -> CaseVerdict:
        return judge(pair, self.samples, self.lost, self.limits)

    def _end(self, reason: StopReason) -> None:
        self.store.append(End(reason=reason, seconds=time.monotonic() - self.begin))

    def _solos(self, revision: str) -> list[Solo]:
        cases = [_at(case, revision) for case in self.plan.suite.cases(self.plan.kind)]
        with Nursery(self.plan) as nursery:
            return [self._kept(measure_solo(case, self.plan, nursery, exact=True)) for case in cases]

    def _kept(self, solo: Solo) -> Solo:
        self.store.append(solo)
        self.observer.solo_ends(solo)
        return solo

    def _stage(self, pairs: Sequence[Comparison], blocks: int) -> StopReason:
        """Blocks of fresh processes, as many as asked for or as the budget allows."""
        longest = 0.0
        groups = _groups(pairs)
        for _ in range(blocks):
            begin = time.monotonic()
            if self._seconds_left() < longest:
                return "budget"
            for number, group in enumerate(groups):
                self._block(number, group, self._seconds_left() / (len(groups) * blocks))
            self.next_block += 1
            longest = max(longest, time.monotonic() - begin)
        return "blocks"

    def _block(self, number: int, group: Sequence[Solo], seconds: float) -> None:
        gone = {lost.case_id for lost in self.lost}
        alive = [solo for solo in group if solo.case.id not in gone]
        if len(alive) < 2:
            return
        rounds = self.plan.rounds_within(alive, seconds)
        self.observer.block_begins(self.next_block, alive[0].case.length, rounds)
        with closing(Block(self.plan, self.next_block, number, alive, rounds, self.random).run()) as records:
            for record in records:
                self._take(record)

    def _seconds_left(self) -> float:
        return self.plan.suite.budget_seconds - (time.monotonic() - self.begin)

    def _take(self, record: Sample | Lost) -> None:
        """A revision that fails while it is timed costs its own comparison only."""
        self.store.append(record)
        if isinstance(record, Sample):
            self.samples.append(record)
            self.observer.sampled(record)
        else:
            self.lost.append(record)
            self.observer.case_lost(record)


def _pairs(plan: Plan) -> list[tuple[Case, Case]]:
    base, head, _ = REVISIONS
    return [(_at(case, base), _at(case, head)) for case in plan.suite.cases(plan.kind)]


def _at(case: Case, revision: str) -> Case:
    return msgspec.structs.replace(case, revision=revision)


def _control(pairs: Iterable[Comparison]) -> Comparison | None:
    """The quickest case's base against itself: whatever differs there is noise."""
    bases = [pair.base for pair in pairs]
    if not bases:
        return None
    quickest = min(bases, key=lambda solo: solo.step_seconds or math.inf)
    return _against_itself(quickest, REVISIONS[2])


def _against_itself(solo: Solo, name: str) -> Comparison:
    return Comparison(solo, msgspec.structs.replace(solo, case=_at(solo.case, name)))


def _groups(pairs: Iterable[Comparison]) -> list[list[Solo]]:
    """What is interleaved: a base with all that is compared with it."""
    groups: dict[str, list[Solo]] = {}
    for pair in pairs:
        groups.setdefault(pair.base.case.id, [pair.base]).append(pair.other)
    return list(groups.values())
