"""Plans the next block of a panel by what its blocks have shown until now."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from bench.measure.procedure import Procedure
from bench.records.plan import Plan, Planned
from bench.records.run import Sample
from bench.records.solo import Solo
from bench.stats.allocation import Allocation, Design, Problem, Task
from bench.stats.ratios import last_attempts
from bench.stats.variances import spreads

BLOCKS_KNOWN = 2
"""From so many blocks on the noise of a case is known well enough to plan by it."""


class Planner:
    """Plans the blocks of one panel."""

    def __init__(self, procedure: Procedure) -> None:
        self.procedure = procedure
        self.block_seconds: dict[int, float] = {}
        """Seconds of each block that was measured in this part of the run."""
        self.planned_seconds: float | None = None
        """Seconds of a block of the last plan; None before the noise is known."""
        self.told: tuple[object, ...] | None = None
        """The last plan, without its figures."""

    def plan(
        self,
        alive: Sequence[Solo],
        reference: str,
        samples: Sequence[Sample],
        seconds: float,
        longest: float,
    ) -> tuple[Design, Plan | None]:
        """The next block; and the plan that it is of, if it is another than before.

        reference: id of the case that the ratios are against. samples: the panel's. seconds: that the blocks
        to come may take together. longest: that one may.
        """
        problem = self._problem(alive, reference, samples)
        if problem is None:
            return Design(self._first_rounds(alive, seconds, len(designs(samples)))), None
        choice = problem.choose(seconds, longest)
        plan = self._told(problem, choice, 1 + max(sample.block for sample in samples))
        self.planned_seconds = choice.block_seconds
        changed, self.told = plan.design != self.told, plan.design
        return choice.design, plan if changed else None

    def one_more(
        self, alive: Sequence[Solo], reference: str, samples: Sequence[Sample]
    ) -> tuple[float, float] | None:
        """Seconds of one block more, as the last was, and by what factor it would narrow the widest interval.

        None before the noise is known.
        """
        problem = self._problem(alive, reference, samples)
        if problem is None:
            return None
        last = problem.done[-1]
        now = problem.half_width(last, 0)
        return (problem.seconds(last), problem.half_width(last, 1) / now) if now > 0 else None

    def shortest(self, alive: Sequence[Solo], reference: str, samples: Sequence[Sample]) -> float | None:
        """Seconds of a block that is worth its start; None before they are known."""
        problem = self._problem(alive, reference, samples)
        return None if problem is None else problem.shortest

    def _first_rounds(self, alive: Sequence[Solo], seconds: float, done: int) -> int:
        """Before the noise is known: so many that the blocks wanted fit, or the rounds wanted if fewer do."""
        solos, least = list(alive), self.procedure.suite.timing.min_blocks
        fitting = self.procedure.rounds_within(solos, seconds / max(1, least - done))
        return max(self.procedure.rounds(solos, seconds), min(self.procedure.rounds_wanted, fitting))

    def _problem(self, alive: Sequence[Solo], reference: str, samples: Sequence[Sample]) -> Problem | None:
        """The choices there are; None before the noise is known."""
        done = list(designs(samples).values())
        found = spreads(samples) if len(done) >= BLOCKS_KNOWN else {}
        if any(solo.case.id not in found for solo in alive):
            return None
        procedure, timing = self.procedure, self.procedure.suite.timing
        times: dict[str, list[float]] = defaultdict(list)
        for sample in samples:
            times[sample.case_id].append(sample.step_seconds)
        groups = procedure.groups(list(alive), _solo(alive, reference))
        resident = all(map(procedure.fits, groups))
        tasks = {
            solo.case.id: Task(
                spread=found[solo.case.id],
                step_seconds=statistics.median(times[solo.case.id]),
                least_steps=procedure.steps(solo),
                visit_seconds=procedure.visit_seconds(solo, resident)
                - procedure.steps(solo) * (solo.step_seconds or 0),
            )
            for solo in alive
        }
        return Problem(
            tasks=tasks,
            baseline=reference,
            done=done,
            block_seconds=self._start_seconds(alive, samples, tasks),
            most_rounds=procedure.max_rounds,
            least_blocks=timing.min_blocks,
            most_blocks=timing.max_blocks,
            side_by_side=procedure.is_duet,
            groups=len(groups),
        )

    def _start_seconds(
        self, alive: Sequence[Solo], samples: Sequence[Sample], tasks: Mapping[str, Task]
    ) -> float:
        """Seconds of a block beside its visits: as measured, or as foretold by what each case took alone."""
        if not self.block_seconds:
            return sum(self.procedure.start_up_seconds(solo) for solo in alive)
        visits: dict[int, float] = defaultdict(float)
        # What repeats took counts as the start: blocks to come will have some too.
        for sample in last_attempts(samples):
            visits[sample.block] += sample.seconds / (2 if self.procedure.is_duet else 1)
            if sample.case_id in tasks:
                visits[sample.block] += tasks[sample.case_id].visit_seconds
        return max(0.0, statistics.fmean(took - visits[n] for n, took in self.block_seconds.items()))

    def _told(self, problem: Problem, choice: Allocation, block: int) -> Plan:
        return Plan(
            machine=self.procedure.environment.machine.words,
            block=block,
            blocks=choice.blocks,
            rounds=choice.design.rounds,
            start_seconds=problem.block_seconds,
            half_width=choice.half_width if math.isfinite(choice.half_width) else None,
            cases={
                name: Planned(
                    visits=2 * choice.design.visits.get(name, 1),
                    steps=max(choice.design.steps.get(name, 1), task.least_steps),
                    processes=task.spread.processes**0.5,
                    between_visits=task.spread.visits**0.5,
                    within_visits=task.spread.steps**0.5,
                    visit_seconds=task.seconds,
                )
                for name, task in problem.tasks.items()
            },
        )


def designs(samples: Iterable[Sample]) -> dict[int, Design]:
    """Designs of the blocks that were carried out, by their samples."""
    rounds: dict[int, set[int]] = defaultdict(set)
    places: dict[tuple[int, str, int], set[tuple[int, int]]] = defaultdict(set)
    steps: dict[int, dict[str, int]] = defaultdict(dict)
    for sample in samples:
        rounds[sample.block].add(sample.round)
        places[sample.block, sample.case_id, sample.group].add((sample.round, sample.position))
        steps[sample.block][sample.case_id] = sample.steps
    visits: Counter[tuple[int, str]] = Counter()
    for (block, name, _), visited in places.items():
        # The baseline is in every group, and its ratio to a case is of the visits in one.
        visits[block, name] = max(visits[block, name], len(visited))
    return {
        block: Design(
            len(found),
            {name: max(1, visits[block, name] // (2 * len(found))) for name in steps[block]},
            steps[block],
        )
        for block, found in sorted(rounds.items())
    }


def _solo(alive: Sequence[Solo], case_id: str) -> Solo:
    return next(solo for solo in alive if solo.case.id == case_id)
