"""The cases of one cell of the grid, which are compared: what is known of them, and what is missing."""

import math
import time
from collections.abc import Sequence

from bench.measure.jobs import BlockJob
from bench.measure.planning import Planner
from bench.measure.procedure import Procedure
from bench.measure.progress import blocks_for
from bench.records.plan import Outlook, Plan
from bench.records.reading import Findings
from bench.records.run import ESTIMATOR, Estimator, Sample, Void
from bench.records.solo import Solo
from bench.stats.intervals import STOPPING_BLOCKS, Interval
from bench.stats.ratios import baseline_of, block_values, speed_ratio
from bench.suites.case import Case


class Panel:
    """Decides for its cases whether they are precise, have enough blocks, or are out of time."""

    def __init__(
        self,
        cases: list[Case],
        procedure: Procedure,
        found: Findings,
        voids: Sequence[Void] = (),
        estimator: Estimator = ESTIMATOR,
    ) -> None:
        """found: everything that is known of the run, now and later. voids: an earlier run's.

        estimator: of the run's file.
        """
        self.estimator = estimator
        self.cases = cases
        self.ids = {case.id for case in cases}
        suite = procedure.suite
        self.procedure = procedure
        self.planner = Planner(procedure)
        self.timing = suite.timing
        self.target = suite.target
        self.found = found
        first = baseline_of(cases[0], cases, suite.baseline)
        assert first is not None, "a suite's baseline is one of its implementations"
        self.baseline = first
        measured = {sample.block for sample in found.samples if sample.case_id in self.ids}
        void = {v.block for v in voids if v.block is not None and v.case_ids[0] in self.ids}
        self.next_block = 1 + max(measured | void, default=-1)
        """Number of the next block; a block that was cut off keeps its number."""
        self.blocks = self._whole_blocks()
        """Complete blocks: every remaining case has a value."""
        self.begun: dict[int, float] = {}
        """Begin of each block that is being measured."""
        self.block_seconds = 0.0
        self.cut_offs = 0
        """Blocks cut off in a row, until now."""

    @property
    def ran_alone(self) -> bool:
        return self.ids <= self.found.solos.keys()

    @property
    def alive(self) -> list[Solo]:
        """Cases that can be timed: they ran alone, compute what they should, and were not lost since."""
        return [
            self.found.solos[case.id]
            for case in self.cases
            if self.found.solos[case.id].status == "ok" and case.id not in self.found.lost
        ]

    @property
    def can_be_timed(self) -> bool:
        """Whether enough cases are left: a duet needs two."""
        return len(self.alive) >= (2 if self.procedure.is_duet else 1)

    @property
    def is_finished(self) -> bool:
        may_stop = self.blocks >= STOPPING_BLOCKS and self.is_precise
        return not self.can_be_timed or self.blocks >= self.timing.max_blocks or may_stop

    @property
    def is_precise(self) -> bool:
        """Whether every interval is as narrow as the suite wants it."""
        alive = self.alive
        if self.blocks < self.timing.min_blocks or not alive:
            return False
        reference = self._reference(alive).case.id
        ratios = [self._ratio(reference, solo.case.id) for solo in alive]
        return all(ratio is not None and ratio.half_width <= self.target for ratio in ratios)

    @property
    def started(self) -> int:
        """Blocks that are complete or being measured."""
        return self.blocks + len(self.begun)

    @property
    def ratios(self) -> dict[str, Interval | None]:
        """Speed-up over the baseline, by case."""
        return {
            case.id: self._ratio(self.baseline.id, case.id)
            for case in self.cases
            if self.found.solos[case.id].status == "ok"
        }

    def has_enough(self, seconds_left: float) -> bool:
        """Whether no block more is begun."""
        return self.started >= self.timing.max_blocks or self.is_out_of_time(seconds_left)

    def is_out_of_time(self, seconds_left: float) -> bool:
        """Whether the budget allows no block more: it always allows the first, since a run without one has no
        ratio; those that an interval needs, while any time is left; later ones, if a short one fits."""
        if self.started == 0:
            return False
        if self.started < self.timing.min_blocks:
            return seconds_left <= 0
        alive = self.alive
        shortest = self.planner.shortest(alive, self._reference(alive).case.id, self._samples())
        return seconds_left <= (self.block_seconds if shortest is None else shortest)

    @property
    def widest(self) -> float | None:
        """Half-width of the widest interval; None before each has one."""
        alive = self.alive if self.ran_alone else []
        if not alive:
            return None
        reference = self._reference(alive).case.id
        ratios = [self._ratio(reference, solo.case.id) for solo in alive if solo.case.id != reference]
        widths = [math.inf if ratio is None else ratio.half_width for ratio in ratios]
        found = max(widths, default=math.inf)
        return None if math.isinf(found) else found

    def seconds_per_block(self, rounds: int) -> float:
        """Seconds that a block to come should take: as planned; without a plan, as the last one took; before
        the first, as foretold for so many rounds."""
        known = self.planner.planned_seconds or self.block_seconds
        return known or self.procedure.block_seconds(self.alive, rounds)

    def blocks_to_come(self, seconds: float, block_seconds: float) -> int:
        """Blocks to be expected within so many seconds: fewer if the intervals are narrow enough before."""
        if not self.ran_alone or self.is_finished:
            return 0
        begun, lacking = len(self.begun), self.timing.min_blocks - self.blocks
        fitting = max(begun, lacking, int(seconds / max(block_seconds, 1e-9)))
        to_come = min(self.timing.max_blocks - self.blocks, fitting)
        if self.widest is None:
            return to_come
        least = max(self.timing.min_blocks, STOPPING_BLOCKS)
        precise = max(least, blocks_for(self.target, self.widest, self.blocks))
        return min(to_come, max(begun, precise - self.blocks))

    @property
    def outlook(self) -> Outlook | None:
        """Gain of one block more; None before there was one."""
        alive, lacking = self.alive, max(0, self.timing.min_blocks - self.blocks)
        if self.blocks == 0:
            return None
        reference = self._reference(alive).case.id
        found = self.planner.one_more(alive, reference, self._samples())
        seconds, factor = found or (self.block_seconds, None)
        width = self.widest
        narrowed = None if width is None or factor is None else width * factor
        return Outlook(lacking=lacking, block_seconds=seconds, half_width=width, narrowed=narrowed)

    def begin_block(self, seconds: float, longest: float) -> tuple[BlockJob, Plan | None]:
        """The next block, which is being measured from now on; and a plan, if it is another than before.

        seconds: that all blocks to come may take together. longest: that this one may.
        """
        alive = self.alive
        reference = self._reference(alive).case.id
        design, plan = self.planner.plan(alive, reference, self._samples(), seconds, longest)
        job = BlockJob(self.next_block, alive, reference, design)
        self.begun[job.number] = time.monotonic()
        self.next_block += 1
        return job, plan

    def block_finished(self, number: int) -> None:
        self.block_seconds = time.monotonic() - self.begun.pop(number)
        self.planner.block_seconds[number] = self.block_seconds
        self.blocks += 1
        self.cut_offs = 0

    def block_cut_off(self, number: int) -> None:
        del self.begun[number]
        self.cut_offs += 1

    def _whole_blocks(self) -> int:
        alive = self.alive if self.ran_alone else []
        if not alive:
            return 0
        reference = self._reference(alive).case.id
        return min(len(block_values(self.found.samples, reference, solo.case.id)) for solo in alive)

    def _samples(self) -> list[Sample]:
        return [sample for sample in self.found.samples if sample.case_id in self.ids]

    def _ratio(self, reference: str, other: str) -> Interval | None:
        return speed_ratio(self.found.samples, reference, other, estimator=self.estimator)

    def _reference(self, alive: list[Solo]) -> Solo:
        """The case that is resident in every group: the baseline, or the first that runs if it does not."""
        return next((solo for solo in alive if solo.case == self.baseline), alive[0])
