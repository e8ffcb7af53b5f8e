"""Numbers of blocks, rounds, visits and steps that make the widest interval narrowest in the remaining time.

Kalibera and Jones (Rigorous benchmarking in reasonable time, ISMM 2013): repetition pays at the level where
the variance is, and costs what that level's start costs. Here a block is an execution, a visit an iteration;
the cases of a block share its time, so that cheap ones get more visits than dear ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.stats.intervals import student_t
from bench.stats.variances import Spread

ROUNDS_WANTED = 2
"""A round has two visits of each case at least: with two rounds a burst in one visit is outvoted."""
ROUNDS_OF_A_DUET = 3
"""A round of a duet has one visit on each half of the cores: with three rounds a burst is outvoted there."""
MOST_VISITS = 4
"""Most visits of a case in half a round: more would make rounds so long that drift no longer cancels."""
LONGEST_VISIT = 4
"""Times as many steps as a visit needs at least."""


def rounds_wanted(side_by_side: bool) -> int:
    """Rounds of a block, if there is time for them, whose value survives one burst."""
    return ROUNDS_OF_A_DUET if side_by_side else ROUNDS_WANTED


@dataclass(frozen=True)
class Design:
    """Numbers of rounds, visits and steps in a block."""

    rounds: int
    visits: Mapping[str, int] = field(default_factory=dict)
    """Visits of each case in half a round, if more than one."""
    steps: Mapping[str, int] = field(default_factory=dict)
    """Steps of each case in a visit, if more than the least."""

    def visits_of(self, case_id: str) -> int:
        """In a whole block."""
        return 2 * self.rounds * self.visits.get(case_id, 1)


@dataclass(frozen=True)
class Task:
    """Costs and noise of one case."""

    spread: Spread
    step_seconds: float
    least_steps: int
    """Least steps of a visit."""
    visit_seconds: float
    """Seconds of a visit beside its steps."""

    @property
    def steps(self) -> int:
        """In a visit: the more, the more a visit costs beside them and the less it varies itself."""
        spread = self.spread
        if self.visit_seconds <= 0 or spread.steps <= 0:
            return self.least_steps
        if spread.visits <= 0:
            return LONGEST_VISIT * self.least_steps
        best = math.sqrt(self.visit_seconds / self.step_seconds * spread.steps / spread.visits)
        return max(self.least_steps, min(math.ceil(best), LONGEST_VISIT * self.least_steps))

    @property
    def seconds(self) -> float:
        """Seconds of a visit."""
        return self.visit_seconds + self.steps * self.step_seconds


@dataclass(frozen=True)
class Allocation:
    """A design, and what it comes to."""

    design: Design
    blocks: int
    """With those that are done."""
    half_width: float
    """Half-width of the widest interval, on the log scale, as far as the spreads are known."""
    block_seconds: float


@dataclass(frozen=True)
class Problem:
    """The choices there are."""

    tasks: Mapping[str, Task]
    """Tasks by case."""
    baseline: str
    """The case that all ratios are against."""
    done: Sequence[Design]
    """Designs of the blocks that are done."""
    block_seconds: float
    """Seconds of a block beside its visits."""
    most_rounds: int
    least_blocks: int
    most_blocks: int
    side_by_side: bool = False
    """Whether each case is timed at the same time as the baseline, as often."""
    groups: int = 1
    """Groups of a block in which cases take turns: the baseline is in each."""

    def seconds(self, design: Design) -> float:
        """Seconds of one block."""
        return self.block_seconds + sum(
            self._visits(name, design) * self._visit_seconds(name) for name in self.tasks
        )

    def _visits(self, name: str, design: Design) -> int:
        """In all groups of a block. In a duet the baseline's take no time of their own."""
        if name != self.baseline:
            return design.visits_of(name)
        return 0 if self.side_by_side else self.groups * design.visits_of(name)

    def _visit_seconds(self, name: str) -> float:
        task = self.tasks[name]
        return max(task.seconds, self.tasks[self.baseline].seconds) if self.side_by_side else task.seconds

    def half_width(self, design: Design, more: int) -> float:
        """Half-width of the widest interval after so many more blocks."""
        return max(
            (self._half_width(name, design, more) for name in self.tasks if name != self.baseline),
            default=0.0,
        )

    def _half_width(self, name: str, design: Design, more: int) -> float:
        blocks = len(self.done) + more
        if blocks < 2:
            return math.inf
        variance = sum(self._variance(name, each) for each in self.done)
        variance += more * self._variance(name, design)
        return student_t(blocks - 1, 0.975) * math.sqrt(variance) / blocks

    def _variance(self, name: str, design: Design) -> float:
        """Variance of a block's log ratio."""
        return sum(self._of_case(each, design) for each in (name, self.baseline))

    def _of_case(self, name: str, design: Design) -> float:
        task = self.tasks[name]
        steps = max(design.steps.get(name, 1), task.least_steps)
        return task.spread.of_block(design.visits_of(name), steps)

    @property
    def shortest(self) -> float:
        """Seconds of the shortest block that is worth its start."""
        return self.seconds(self._plain(self._rounds_wanted))

    def choose(self, seconds: float, longest: float | None = None) -> Allocation:
        """The design of the blocks that are still to come; at least one block.

        seconds: that they may take together. longest: that each may, by default as long as all together.
        """
        # Late in a run a share of the time is too short for a block that the whole of it has room for.
        longest = seconds if longest is None else longest
        seconds = max(seconds, min(longest, self.shortest))
        least = max(1, self.least_blocks - len(self.done))
        most = max(least, self.most_blocks - len(self.done))
        choices = [
            Allocation(design, len(self.done) + more, self.half_width(design, more), self.seconds(design))
            for more in range(least, most + 1)
            for design in self._designs(min(seconds / more, longest))
        ]
        if not choices:
            design = self._plain(1)
            width = self.half_width(design, least)
            return Allocation(design, len(self.done) + least, width, self.seconds(design))
        # With the rounds wanted, if there is time; then the narrowest, and of equal ones the shortest.
        robust = [choice for choice in choices if choice.design.rounds >= self._rounds_wanted]
        return min(robust or choices, key=lambda choice: (choice.half_width, choice.blocks))

    @property
    def _rounds_wanted(self) -> int:
        return min(rounds_wanted(self.side_by_side), self.most_rounds)

    def _designs(self, seconds: float) -> list[Design]:
        """One for each number of rounds that a block of so many seconds has time for."""
        plain = (self._plain(rounds) for rounds in range(1, self.most_rounds + 1))
        return [self._filled(design, seconds) for design in plain if self.seconds(design) <= seconds]

    def _plain(self, rounds: int) -> Design:
        steps = {} if self.side_by_side else {name: task.steps for name, task in self.tasks.items()}
        return Design(rounds, {}, steps)

    def _filled(self, design: Design, seconds: float) -> Design:
        """With more visits of what makes the widest interval, as long as there is time."""
        while not self.side_by_side:
            widest = max(
                (name for name in self.tasks if name != self.baseline),
                key=lambda name: self._variance(name, design),
                default=self.baseline,
            )
            pair = dict.fromkeys((widest, self.baseline))
            further = [more for name in pair if (more := self._one_more(design, name, seconds)) is not None]
            if not further:
                break
            design = min(further, key=lambda more: self._price(design, more, widest))
        return design

    def _one_more(self, design: Design, name: str, seconds: float) -> Design | None:
        visits = design.visits.get(name, 1) + 1
        more = Design(design.rounds, {**design.visits, name: visits}, design.steps)
        return more if visits <= MOST_VISITS and self.seconds(more) <= seconds else None

    def _price(self, design: Design, more: Design, widest: str) -> float:
        """Seconds for each bit of variance that goes."""
        gain = self._variance(widest, design) - self._variance(widest, more)
        return (self.seconds(more) - self.seconds(design)) / gain if gain > 0 else math.inf
