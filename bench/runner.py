"""Drives the workers: the solo pass, then blocks of interleaved rounds; resumes, and contains crashes."""

import time
from typing import Protocol

import numpy as np

from bench.analysis import baseline_of, block_values, speed_ratio
from bench.block import Block
from bench.case import Case
from bench.nursery import Nursery
from bench.plan import Plan
from bench.process import WorkerFailed
from bench.record import End, Lost, Results, Sample, Solo, StopReason, Store
from bench.solo import measure_solo
from bench.stats import Interval


class Observer(Protocol):
    """What a display is told while a suite runs."""

    def solo_begins(self, case: Case, number: int, total: int) -> None: ...
    def solo_ends(self, solo: Solo) -> None: ...
    def block_begins(self, block: int, length: int, rounds: int) -> None: ...
    def sampled(self, sample: Sample, done: int, total: int) -> None: ...
    def case_lost(self, lost: Lost) -> None: ...
    def ratios(self, ratios: dict[str, Interval | None]) -> None: ...


class Panel:
    """The cases of one length: those that are compared with each other."""

    def __init__(self, cases: list[Case], baseline: str) -> None:
        self.cases = cases
        self.length = cases[0].length
        first = baseline_of(cases[0], cases, baseline)
        assert first is not None, "a suite's baseline is one of its implementations"
        self.baseline = first
        self.blocks = 0
        """Those with a value for every case that is left."""
        self.next_block = 0
        """Its number; one that was cut short keeps its own."""
        self.done = False
        self.block_seconds = 0.0


class Runner:
    """Carries out one suite, writing every record as it is made."""

    def __init__(self, plan: Plan, store: Store, observer: Observer, earlier: Results | None = None) -> None:
        self.plan = plan
        self.store = store
        self.observer = observer
        self.solos: dict[str, Solo] = dict(earlier.solos) if earlier else {}
        self.samples: list[Sample] = list(earlier.samples) if earlier else []
        self.lost: dict[str, Lost] = dict(earlier.lost) if earlier else {}
        self.begin = time.monotonic()
        self.random = np.random.default_rng()

    def run(self) -> StopReason:
        """Measure everything, and record why it stopped."""
        try:
            self._solo_pass()
            reason = self._blocks()
        except KeyboardInterrupt:
            self._end("interrupted")
            raise
        self._end(reason)
        return reason

    def _end(self, reason: StopReason) -> None:
        self.store.append(End(reason=reason, seconds=time.monotonic() - self.begin))

    def _solo_pass(self) -> None:
        cases = self.plan.suite.cases(self.plan.kind)
        with Nursery(self.plan) as nursery:
            for number, case in enumerate(cases, 1):
                if case.id in self.solos:
                    continue
                self.observer.solo_begins(case, number, len(cases))
                solo = measure_solo(case, self.plan, nursery)
                self.solos[case.id] = solo
                self.store.append(solo)
                self.observer.solo_ends(solo)

    def _blocks(self) -> StopReason:
        panels = self._panels()
        if not any(self._alive(panel) for panel in panels):
            return "failed"
        while True:
            for panel in panels:
                panel.done = panel.done or self._is_finished(panel)
            open_panels = [panel for panel in panels if not panel.done]
            if not open_panels:
                return "precise" if all(self._is_precise(panel) for panel in panels) else "blocks"
            for panel in open_panels:
                if self._budget_is_spent(panel):
                    return "budget"
                begin = time.monotonic()
                self._block(panel, self._seconds_left() / len(open_panels))
                panel.block_seconds = time.monotonic() - begin
                self.observer.ratios(self._ratios(panel))

    def _panels(self) -> list[Panel]:
        cases = self.plan.suite.cases(self.plan.kind)
        panels = [
            Panel([case for case in cases if case.length == length], self.plan.suite.baseline)
            for length in self.plan.suite.lengths
        ]
        for panel in panels:
            ids = {case.id for case in panel.cases}
            panel.next_block = 1 + max((s.block for s in self.samples if s.case_id in ids), default=-1)
            panel.blocks = self._whole_blocks(panel)
        return panels

    def _whole_blocks(self, panel: Panel) -> int:
        alive = self._alive(panel)
        if not alive:
            return 0
        reference = self._reference(panel, alive).case.id
        return min(len(block_values(self.samples, reference, solo.case.id)) for solo in alive)

    def _budget_is_spent(self, panel: Panel) -> bool:
        """Whether no block more is begun: the first one always is, since a run without one has no ratio;
        those that an interval needs, while any time is left; later ones, if they fit."""
        if panel.blocks == 0:
            return False
        needed = 0.0 if panel.blocks < self.plan.suite.timing.min_blocks else panel.block_seconds
        return self._seconds_left() <= needed

    def _seconds_left(self) -> float:
        return self.plan.suite.budget_seconds - (time.monotonic() - self.begin)

    def _alive(self, panel: Panel) -> list[Solo]:
        """Cases that can be timed: they ran alone, compute what they should, and were not lost since."""
        return [
            self.solos[case.id]
            for case in panel.cases
            if self.solos[case.id].status == "ok" and case.id not in self.lost
        ]

    def _is_finished(self, panel: Panel) -> bool:
        return (
            not self._alive(panel)
            or panel.blocks >= self.plan.suite.timing.max_blocks
            or self._is_precise(panel)
        )

    def _is_precise(self, panel: Panel) -> bool:
        if panel.blocks < self.plan.suite.timing.min_blocks:
            return False
        alive = self._alive(panel)
        reference = self._reference(panel, alive).case.id
        ratios = [speed_ratio(self.samples, reference, solo.case.id) for solo in alive]
        return all(ratio is not None and ratio.half_width <= self.plan.suite.target for ratio in ratios)

    def _reference(self, panel: Panel, alive: list[Solo]) -> Solo:
        """What is resident in every group: the baseline, or where it does not run, the first that does."""
        return next((solo for solo in alive if solo.case == panel.baseline), alive[0])

    def _ratios(self, panel: Panel) -> dict[str, Interval | None]:
        return {
            case.id: speed_ratio(self.samples, panel.baseline.id, case.id)
            for case in panel.cases
            if self.solos[case.id].status == "ok"
        }

    def _block(self, panel: Panel, seconds: float) -> None:
        alive = self._alive(panel)
        rounds = self.plan.rounds(alive, seconds)
        self.observer.block_begins(panel.next_block, panel.length, rounds)
        for number, group in enumerate(self.plan.groups(alive, self._reference(panel, alive))):
            still_alive = [solo for solo in group if solo.case.id not in self.lost]
            Block(self.plan, panel.next_block, number, still_alive, rounds, self.random, self).run()
        panel.next_block += 1
        panel.blocks += 1

    def sampled(self, sample: Sample, done: int, total: int) -> None:
        self.samples.append(sample)
        self.store.append(sample)
        self.observer.sampled(sample, done, total)

    def case_lost(self, case: Case, block: int, failure: WorkerFailed) -> None:
        """A case that failed while it was timed costs its own row only."""
        lost = Lost(case_id=case.id, block=block, status=failure.status, reason=failure.reason)
        self.lost[case.id] = lost
        self.store.append(lost)
        self.observer.case_lost(lost)
