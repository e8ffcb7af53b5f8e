"""From timed samples to ratios: which case is compared with which, and what the blocks say."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.records.run import ESTIMATOR, Estimator, Sample
from bench.stats.duets import values_by_block
from bench.stats.intervals import Interval, block_value, enough, ratio_interval
from bench.stats.rounds import VALUES
from bench.suites.case import Case


def baseline_of(case: Case, cases: Iterable[Case], baseline: str) -> Case | None:
    """The case that another's ratio is against: the baseline's in the same cell of the grid."""
    return next(
        (other for other in cases if other.implementation == baseline and other.cell == case.cell), None
    )


@dataclass
class Visits:
    """Visits of one case in one round."""

    places: tuple[set[int], set[int]] = field(default_factory=lambda: (set(), set()))
    """Positions that were visited in the order drawn, and in its reverse."""
    undisturbed: list[float] = field(default_factory=list)
    """Step times in seconds of the runs that nothing disturbed."""
    every: list[float] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        self.places[sample.visit].add(sample.position)
        self.every.append(sample.step_seconds)
        if sample.disturbed_by is None:
            self.undisturbed.append(sample.step_seconds)

    @property
    def complete(self) -> bool:
        """Whether the round was carried out to its end: it mirrors itself."""
        there, back = self.places
        return len(there) == len(back) > 0


Place = tuple[int, int, int]
"""Block, group and round."""


def block_values(
    samples: Iterable[Sample],
    baseline: str,
    other: str,
    via: str | None = None,
    estimator: Estimator = ESTIMATOR,
) -> list[float]:
    """Per block, the log ratio of baseline to other (case ids).

    estimator: of runs in turns; a file's header names its own. Runs that were side by side say so themselves.
    A round counts when it was carried out to its end, with both cases in one group. Blocks that timed them in
    different groups count by way of a third case that was in both, if one is named: a run's baseline is in
    all.
    """
    own = [sample for sample in samples if sample.case_id in (baseline, other, via)]
    if any(sample.processors for sample in own):
        by_block = partial(values_by_block, own)
    else:
        by_block = partial(_by_block, _visits(own), estimator)
    found = by_block(baseline, other)
    if via is not None and via not in (baseline, other):
        there, back = (by_block(*pair) for pair in ((baseline, via), (via, other)))
        found = {block: there[block] + back[block] for block in there.keys() & back.keys()} | found
    return [value for _, value in sorted(found.items())]


def _visits(samples: Iterable[Sample]) -> dict[Place, dict[str, Visits]]:
    """Visits by place and case."""
    visits: dict[Place, dict[str, Visits]] = defaultdict(lambda: defaultdict(Visits))
    for sample in samples:
        visits[sample.block, sample.group, sample.round][sample.case_id].add(sample)
    return {place: dict(cases) for place, cases in visits.items()}


def _by_block(
    visits: Mapping[Place, Mapping[str, Visits]], estimator: Estimator, baseline: str, other: str
) -> dict[int, float]:
    rounds: dict[int, list[tuple[Visits, Visits]]] = defaultdict(list)
    for (block, _, _), cases in visits.items():
        if baseline in cases and other in cases and cases[baseline].complete and cases[other].complete:
            rounds[block].append((cases[baseline], cases[other]))
    if not rounds:
        return {}
    value = VALUES[estimator]
    return {
        block: value(list(zip(*(_counted(side) for side in zip(*found, strict=True)), strict=True)))
        for block, found in rounds.items()
    }


def _counted(rounds: Sequence[Visits]) -> list[list[float]]:
    """Step times of one case in one block: of its undisturbed runs, or of all if these are too few."""
    quiet = [visits.undisturbed for visits in rounds]
    places = sum(len(there) + len(back) for there, back in (visits.places for visits in rounds))
    return quiet if enough(sum(map(len, quiet)), places) else [visits.every for visits in rounds]


def speed_ratio(
    samples: Iterable[Sample],
    baseline: str,
    other: str,
    via: str | None = None,
    estimator: Estimator = ESTIMATOR,
) -> Interval | None:
    """Speed-up of a case over its baseline; None before the first complete round."""
    values = block_values(samples, baseline, other, via, estimator)
    return ratio_interval(values) if values else None


def step_seconds(samples: Iterable[Sample], case_id: str) -> float | None:
    """Median over blocks of the median step time in a block, in seconds."""
    times = block_step_seconds(samples, case_id)
    return block_value(times) if times else None


def block_step_seconds(samples: Iterable[Sample], case_id: str) -> list[float]:
    """Per block, the median step time in seconds, of the runs that nothing disturbed if there are any."""
    blocks: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.case_id == case_id:
            blocks[sample.block].append(sample)
    return [block_value([s.step_seconds for s in counted(found)]) for _, found in sorted(blocks.items())]


def counted(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Those of one case in one block that count: what nothing disturbed, or all if that is too little."""
    quiet = [sample for sample in samples if sample.disturbed_by is None]
    if any(one.processors for one in samples) and len({one.position % 2 for one in quiet}) < 2:
        return samples  # A duet's value needs runs on both halves of the cores.
    places = {(sample.group, sample.round, sample.position) for sample in samples}
    return quiet if enough(len(quiet), len(places)) else samples
