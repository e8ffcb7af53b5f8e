"""From timed samples to ratios: which case is compared with which, and what the blocks say."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.records.run import ESTIMATOR, Estimator, Sample
from bench.stats.duets import values_by_block
from bench.stats.intervals import Interval, block_value, enough, ratio_interval
from bench.stats.rounds import VALUES, Round
from bench.suites.case import Case


def baseline_of(case: Case, cases: Iterable[Case], baseline: str) -> Case | None:
    """The case that another's ratio is against: the baseline's in the same cell of the grid."""
    return next(
        (other for other in cases if other.implementation == baseline and other.cell == case.cell), None
    )


@dataclass
class Visits:
    """Visits of one case in one round, of each the last attempt."""

    runs: list[Sample] = field(default_factory=list)

    @property
    def every(self) -> list[float]:
        """Step times in seconds."""
        return [sample.step_seconds for sample in self.runs]

    @property
    def undisturbed(self) -> list[float]:
        """Step times in seconds of the runs that nothing disturbed."""
        return [sample.step_seconds for sample in self.runs if sample.disturbed_by is None]

    @property
    def complete(self) -> bool:
        """Whether the round was carried out to its end: it mirrors itself."""
        visits = [sample.visit for sample in self.runs]
        return visits.count(0) == visits.count(1) > 0


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
    for sample in last_attempts(samples):
        visits[sample.block, sample.group, sample.round][sample.case_id].runs.append(sample)
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
    return {block: value(_counted(found)) for block, found in rounds.items()}


def _counted(rounds: Sequence[tuple[Visits, Visits]]) -> list[Round]:
    """Step times of both cases in one block: of undisturbed runs, or one for each place if these are too few.

    Too few of one case are too few of both: a median of one's quiet runs is not to be held against one of the
    other's disturbed ones.
    """
    sides = list(zip(*rounds, strict=True))
    if all(enough(sum(len(v.undisturbed) for v in side), sum(len(v.runs) for v in side)) for side in sides):
        return [(one.undisturbed, other.undisturbed) for one, other in rounds]
    return [(one.every, other.every) for one, other in rounds]


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


def counted(samples: Iterable[Sample]) -> list[Sample]:
    """Those of one case in one block that count: what nothing disturbed; if that is too little, or in a duet
    too little on one half of the cores, the last run at each place."""

    def half(run: Sample) -> int:
        return run.position % 2 if run.processors else 0

    last = last_attempts(samples)
    quiet = [run for run in last if run.disturbed_by is None]
    places, undisturbed = Counter(map(half, last)), Counter(map(half, quiet))
    return quiet if all(enough(undisturbed[each], places[each]) for each in places) else last


def last_attempts(samples: Iterable[Sample]) -> list[Sample]:
    """The last run at each place of the blocks: one that was disturbed was repeated until one was not."""
    last: dict[tuple[object, ...], Sample] = {}
    for sample in samples:
        place = (sample.case_id, sample.block, sample.group, sample.round, sample.visit, sample.position)
        if place not in last or last[place].attempt <= sample.attempt:
            last[place] = sample
    return list(last.values())
