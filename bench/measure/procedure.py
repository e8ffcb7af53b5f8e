"""The procedure of a suite on this machine: device, threads, warm-up, deadlines, memory."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.measure.residency import needed_bytes, room_bytes
from bench.probes.limits import free_memory
from bench.records.environment import DeviceKind, Environment
from bench.records.gpu import EXCLUSIVE_PROCESS
from bench.records.solo import Solo
from bench.stats.allocation import rounds_wanted
from bench.suites.case import Case
from bench.suites.suite import Suite
from bench.workers.messages import Prepare, Warm
from bench.workers.source import CodeSource

MEMORY_RESERVE_BYTES = 1 << 30
"""Left to the parent and to the rest of the machine; half of what is free, if that is less."""
SLOW_STEP_SECONDS = 2.0
"""From this step time on, two warm-up steps in a block are enough: in the first one the process gets its
memory, page by page, and in the second what the first one's order of freeing left to get."""
UNCOUNTED_STEPS = 2
"""On a GPU the first steps load libraries and modules; the optimiser has its state from the second on."""
UNTIMED_STEPS = 2
"""Before each run on a GPU: one gets its memory anew, and one shows that this was all of it."""
DEADLINE_FACTOR = 20
"""A run that takes this many times longer than its solo pass foretold has hung."""
BLOCKS_WANTED = 5
"""Rounds are shortened until this many blocks fit into the budget: a block more narrows an interval by
more than a round more does."""


@dataclass(frozen=True)
class Procedure:
    """A suite's timing on one device."""

    suite: Suite
    environment: Environment
    quick: bool = False
    energy: bool = False
    """Whether the energy of a step is measured, which takes ten seconds per case."""
    arithmetic: bool = False
    """Whether the FLOPs of a step are counted, and the most FLOP/s of the device measured beside it."""
    sources: Mapping[str, CodeSource] = field(default_factory=dict)
    """Places that each revision's code is imported from."""
    checkpoints: Mapping[str, Path] = field(default_factory=dict)
    """Places of checkpoints here, by the name that cases have for them, if that is not the name itself."""

    @property
    def kind(self) -> DeviceKind:
        return self.environment.kind

    @property
    def threads(self) -> int:
        return self.environment.threads

    @property
    def is_duet(self) -> bool:
        """Whether what is compared is timed at the same time, side by side."""
        return self.environment.pairing == "duet"

    @property
    def deadline_seconds(self) -> float:
        return self.suite.deadline_seconds

    def seconds_left(self, begin: float) -> float:
        """Seconds of the budget that are left to a run that began at that moment of the monotonic clock."""
        return self.suite.budget_seconds - (time.monotonic() - begin)

    @property
    def min_run_seconds(self) -> float:
        """A run is as many steps as take this long: shorter ones are lost in the clock's own noise, and on a
        CPU in the first step after a wait, whose caches are cold."""
        return self.suite.min_run_seconds or (0.2 if self.kind == "cuda" else 0.5)

    @property
    def solo_warm_up(self) -> Warm:
        if self.quick:
            return Warm(min_steps=self._least_steps, max_steps=4, max_seconds=1, cold=True)
        return Warm(min_steps=3, max_steps=30, max_seconds=10, cold=True)

    def prepare(self, case: Case) -> Prepare:
        if case.checkpoint is not None and case.checkpoint in self.checkpoints:
            case = msgspec.structs.replace(case, checkpoint=str(self.checkpoints[case.checkpoint]))
        return Prepare(case, self.environment.device, case.threads or self.threads, self._memory_limit())

    def block_warm_up(self, solo: Solo) -> Warm:
        """The warm-up of a fresh process in a block, whose step time is known from the solo pass."""
        if solo.step_seconds is not None and solo.step_seconds > SLOW_STEP_SECONDS:
            return Warm(min_steps=2, max_steps=2, max_seconds=1)
        if self.quick:
            return Warm(min_steps=self._least_steps, max_steps=4, max_seconds=0.5)
        return Warm(min_steps=3, max_steps=20, max_seconds=2)

    @property
    def _least_steps(self) -> int:
        """Steps of the shortest warm-up: a GPU's first ones are long after what compiled is known."""
        return 3 if self.kind == "cuda" else 1

    def steps(self, solo: Solo) -> int:
        """Steps in one timed run."""
        return max(1, math.ceil(self.min_run_seconds / (solo.step_seconds or self.min_run_seconds)))

    def run_deadline_seconds(self, solo: Solo, steps: int | None = None) -> float:
        """A timed run that takes longer than this has hung. steps: of the run, by default the least."""
        expected = (steps or self.steps(solo)) * (solo.step_seconds or 0)
        return max(self.deadline_seconds, DEADLINE_FACTOR * expected)

    @property
    def max_rounds(self) -> int:
        """Most rounds of a block: the suite's, and in a duet no fewer than its value needs."""
        most = self.suite.timing.max_rounds
        return max(most, self.rounds_wanted) if self.is_duet else most

    @property
    def rounds_wanted(self) -> int:
        """Rounds of a block, if there is time for them, whose value survives one burst."""
        return rounds_wanted(self.is_duet)

    def rounds(self, solos: list[Solo], seconds_left: float) -> int:
        """Rounds per block, so that the blocks wanted fit into the time left."""
        wanted = max(1, min(BLOCKS_WANTED, self.suite.timing.max_blocks))
        return self.rounds_within(solos, seconds_left / wanted)

    def rounds_within(self, solos: list[Solo], seconds: float) -> int:
        """Rounds of one block, so that it takes no longer than that; at least one."""
        overhead, a_round = self._costs(solos)
        most = self.max_rounds
        return most if a_round == 0 else max(1, min(most, int((seconds - overhead) / a_round)))

    def block_seconds(self, solos: list[Solo], rounds: int) -> float:
        """Seconds that a block should take."""
        overhead, a_round = self._costs(solos)
        return overhead + rounds * a_round

    def _costs(self, solos: list[Solo]) -> tuple[float, float]:
        """Seconds that a block's start and each of its rounds should take."""
        groups = self.groups(solos, self._baseline_of(solos))
        resident = [self.fits(group) for group in groups]
        # In a duet both do everything at the same time.
        together = max if self.is_duet else sum
        overhead = sum(
            together(self.start_up_seconds(solo) for solo in group)
            for group, stays in zip(groups, resident, strict=True)
            if stays
        )
        a_round = 2 * sum(
            together(self.visit_seconds(solo, stays) for solo in group)
            for group, stays in zip(groups, resident, strict=True)
        )
        return overhead, a_round

    def _baseline_of(self, solos: list[Solo]) -> Solo:
        named = (solo for solo in solos if solo.case.implementation == self.suite.baseline)
        return next(named, solos[0])

    def visit_seconds(self, solo: Solo, resident: bool) -> float:
        """Seconds of a visit, which begins with a process if the workers take turns."""
        untimed = UNTIMED_STEPS if self.kind == "cuda" else 0
        run = (untimed + self.steps(solo)) * (solo.step_seconds or 0)
        return run if resident else run + self.start_up_seconds(solo)

    def start_up_seconds(self, solo: Solo) -> float:
        """Seconds until a case's process is warm, in a block."""
        uncounted = UNCOUNTED_STEPS if self.kind == "cuda" else 0
        steps = uncounted + self.block_warm_up(solo).min_steps
        return solo.prepare_seconds + steps * (solo.step_seconds or 0)

    def groups(self, solos: list[Solo], baseline: Solo) -> list[list[Solo]]:
        """Cases that are resident together, the baseline in each group: as few groups as memory allows, and
        in a duet a group for each pair."""
        if self.is_duet:
            return [[baseline, solo] for solo in solos if solo is not baseline]
        groups: list[list[Solo]] = []
        for solo in solos:
            if solo is baseline:
                continue
            if not groups or not self.fits([*groups[-1], solo]):
                groups.append([baseline])
            groups[-1].append(solo)
        return groups or [[baseline]]

    def fits(self, group: list[Solo]) -> bool:
        """Whether the workers of a group may all be resident; else they take turns."""
        gpu = self.environment.gpu
        if len(group) > 1 and gpu is not None and gpu.compute_mode == EXCLUSIVE_PROCESS:
            return False
        return needed_bytes(group, self.kind) <= room_bytes(self.environment)

    def _memory_limit(self) -> int | None:
        """Bytes that a worker may take on a CPU, so that it fails before the machine swaps."""
        if self.kind != "cpu":
            return None
        free = free_memory()
        return free - min(MEMORY_RESERVE_BYTES, free // 2)
