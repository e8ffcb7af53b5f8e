"""Decides what is measured next: the solo pass, then blocks, until they are precise, enough or too late."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from bench.measure.jobs import BlockJob, Job, SoloJob
from bench.measure.procedure import BLOCKS_WANTED, Procedure
from bench.records.reading import Findings, Results
from bench.records.run import Finding, Lost, Sample, Solo, StopReason, Void
from bench.records.writing import ResultFile
from bench.stats.intervals import Interval
from bench.stats.ratios import baseline_of, block_values, speed_ratio
from bench.suites.case import Case

TRIES = 3
"""A case, or the blocks of one length, that are cut off this many times in a row have failed."""


class Observer(Protocol):
    """What a display is told while a suite runs."""

    def solo_begins(self, case: Case, number: int, total: int) -> None: ...
    def solo_ends(self, solo: Solo) -> None: ...
    def block_begins(self, block: int, length: int, rounds: int) -> None: ...
    def sampled(self, sample: Sample) -> None: ...
    def case_lost(self, lost: Lost) -> None: ...
    def cut_off(self, void: Void) -> None: ...
    def ratios(self, ratios: dict[str, Interval | None]) -> None: ...


class Panel:
    """The cases of one length: those that are compared with each other."""

    def __init__(self, cases: list[Case], baseline: str) -> None:
        self.cases = cases
        self.ids = {case.id for case in cases}
        self.length = cases[0].length
        first = baseline_of(cases[0], cases, baseline)
        assert first is not None, "a suite's baseline is one of its implementations"
        self.baseline = first
        self.blocks = 0
        """Those with a value for every case that is left."""
        self.next_block = 0
        """Its number; one that was cut off keeps its own."""
        self.begun: dict[int, float] = {}
        """When each block began that is being measured."""
        self.block_seconds = 0.0
        self.cut_offs = 0
        """Blocks in a row, until now."""


class Runner:
    """One suite on one kind of device.

    It drives nothing: whoever has a free device asks for the `next_job`, lets `take` have each record, and
    says whether the job was `finished` or `cut_off`. One device and a hundred thus make the same run.
    """

    def __init__(
        self,
        plan: Procedure,
        store: ResultFile,
        observer: Observer,
        earlier: Results | None = None,
        devices: int = 1,
    ) -> None:
        self.plan = plan
        self.store = store
        self.observer = observer
        self.devices = devices
        self.found = Findings()
        if earlier is not None:
            self.found = Findings(dict(earlier.solos), list(earlier.samples), dict(earlier.lost))
        self.begin = time.monotonic()
        self.cases = plan.suite.cases(plan.kind)
        self.panels = self._panels(earlier.voids if earlier else [])
        self.alone: set[str] = set()
        """Cases that are in their solo pass now."""
        self.cut_offs: Counter[str] = Counter()
        """Of solo passes, by case."""

    def _panels(self, voids: Sequence[Void]) -> list[Panel]:
        panels = [
            Panel([case for case in self.cases if case.length == length], self.plan.suite.baseline)
            for length in self.plan.suite.lengths
        ]
        for panel in panels:
            measured = {sample.block for sample in self.found.samples if sample.case_id in panel.ids}
            void = {v.block for v in voids if v.block is not None and v.case_ids[0] in panel.ids}
            panel.next_block = 1 + max(measured | void, default=-1)
            panel.blocks = self._whole_blocks(panel)
        return panels

    def _whole_blocks(self, panel: Panel) -> int:
        alive = self._alive(panel) if self._ran_alone(panel) else []
        if not alive:
            return 0
        reference = self._reference(panel, alive).case.id
        return min(len(block_values(self.found.samples, reference, solo.case.id)) for solo in alive)

    def next_job(self) -> Job | None:
        """What a free device is to do now; None: nothing, or nothing before other jobs have ended."""
        return self._next_solo() or self._next_block()

    def take(self, record: Finding) -> None:
        """A measurement has finished."""
        self.store.append(record)
        self.found.add(record)
        match record:
            case Solo():
                self.observer.solo_ends(record)
            case Sample():
                self.observer.sampled(record)
            case Lost():
                self.observer.case_lost(record)

    def finished(self, job: Job) -> None:
        """A job was done to its end."""
        if isinstance(job, SoloJob):
            self.alone.remove(job.case.id)
            return
        panel = self._panel(job)
        panel.block_seconds = time.monotonic() - panel.begun.pop(job.number)
        panel.blocks += 1
        panel.cut_offs = 0
        self.observer.ratios(self._ratios(panel))

    def cut_off(self, job: Job, node: str, device: str, reason: str) -> None:
        """A job ended with its device: what it measured does not count, and it is done again elsewhere."""
        ids, block = ([job.case.id], None) if isinstance(job, SoloJob) else (job.case_ids, job.number)
        void = Void(case_ids=ids, block=block, reason=reason, node=node, device=device)
        self.store.append(void)
        self.observer.cut_off(void)
        self.found.drop(void)
        if isinstance(job, SoloJob):
            self.alone.remove(job.case.id)
            self._count_alone(job.case, void)
        else:
            panel = self._panel(job)
            del panel.begun[job.number]
            self._count_block(panel, void)

    def _count_alone(self, case: Case, void: Void) -> None:
        self.cut_offs[case.id] += 1
        if self.cut_offs[case.id] == TRIES:
            reason = f"was cut off {TRIES} times, last: {void.reason}"
            self.take(Solo(case=case, status="crashed", reason=reason, node=void.node, device=void.device))

    def _count_block(self, panel: Panel, void: Void) -> None:
        panel.cut_offs += 1
        if panel.cut_offs == TRIES:
            reason = f"{TRIES} blocks in a row were cut off, last: {void.reason}"
            for solo in self._alive(panel):
                self.take(
                    Lost(
                        case_id=solo.case.id,
                        block=panel.next_block - 1,
                        status="crashed",
                        reason=reason,
                        node=void.node,
                        device=void.device,
                    )
                )

    @property
    def reason(self) -> StopReason:
        """Why there is nothing more to do."""
        if not all(map(self._ran_alone, self.panels)):
            return "devices"
        if not any(map(self._alive, self.panels)):
            return "failed"
        still_open = [panel for panel in self.panels if not self._is_finished(panel)]
        if still_open:
            return "budget" if all(map(self._budget_is_spent, still_open)) else "devices"
        return "precise" if all(map(self._is_precise, self.panels)) else "blocks"

    def _next_solo(self) -> SoloJob | None:
        for number, case in enumerate(self.cases, 1):
            if case.id not in self.found.solos and case.id not in self.alone:
                self.alone.add(case.id)
                self.observer.solo_begins(case, number, len(self.cases))
                return SoloJob(case)
        return None

    def _next_block(self) -> BlockJob | None:
        """Of the length that has the fewest."""
        still_open = [p for p in self.panels if self._ran_alone(p) and not self._is_finished(p)]
        free = [panel for panel in still_open if not self._has_enough(panel)]
        if not free:
            return None
        panel = min(free, key=lambda panel: panel.blocks + len(panel.begun))
        alive = self._alive(panel)
        rounds = self.plan.rounds(alive, self._seconds_left() * self._share(len(still_open)))
        job = BlockJob(panel.next_block, alive, self._reference(panel, alive).case.id, rounds)
        panel.begun[job.number] = time.monotonic()
        panel.next_block += 1
        self.observer.block_begins(job.number, panel.length, rounds)
        return job

    def _share(self, panels: int) -> float:
        """Of the time left, what the blocks of one length may take together; each fits into that time."""
        return min(self.devices / panels, BLOCKS_WANTED)

    def _has_enough(self, panel: Panel) -> bool:
        begun = panel.blocks + len(panel.begun)
        return begun >= self.plan.suite.timing.max_blocks or self._budget_is_spent(panel)

    def _budget_is_spent(self, panel: Panel) -> bool:
        """Whether no block more is begun: the first one always is, since a run without one has no ratio;
        those that an interval needs, while any time is left; later ones, if they fit."""
        begun = panel.blocks + len(panel.begun)
        if begun == 0:
            return False
        needed = 0.0 if begun < self.plan.suite.timing.min_blocks else panel.block_seconds
        return self._seconds_left() <= needed

    def _seconds_left(self) -> float:
        return self.plan.suite.budget_seconds - (time.monotonic() - self.begin)

    def _panel(self, job: BlockJob) -> Panel:
        return next(panel for panel in self.panels if job.reference in panel.ids)

    def _ran_alone(self, panel: Panel) -> bool:
        return panel.ids <= self.found.solos.keys()

    def _alive(self, panel: Panel) -> list[Solo]:
        """Cases that can be timed: they ran alone, compute what they should, and were not lost since."""
        return [
            self.found.solos[case.id]
            for case in panel.cases
            if self.found.solos[case.id].status == "ok" and case.id not in self.found.lost
        ]

    def _is_finished(self, panel: Panel) -> bool:
        return (
            not self._alive(panel)
            or panel.blocks >= self.plan.suite.timing.max_blocks
            or self._is_precise(panel)
        )

    def _is_precise(self, panel: Panel) -> bool:
        alive = self._alive(panel)
        if panel.blocks < self.plan.suite.timing.min_blocks or not alive:
            return False
        reference = self._reference(panel, alive).case.id
        ratios = [speed_ratio(self.found.samples, reference, solo.case.id) for solo in alive]
        return all(ratio is not None and ratio.half_width <= self.plan.suite.target for ratio in ratios)

    def _reference(self, panel: Panel, alive: list[Solo]) -> Solo:
        """What is resident in every group: the baseline, or where it does not run, the first that does."""
        return next((solo for solo in alive if solo.case == panel.baseline), alive[0])

    def _ratios(self, panel: Panel) -> dict[str, Interval | None]:
        return {
            case.id: speed_ratio(self.found.samples, panel.baseline.id, case.id)
            for case in panel.cases
            if self.found.solos[case.id].status == "ok"
        }
