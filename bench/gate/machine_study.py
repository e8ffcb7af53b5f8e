"""A machine's own noise and its effect on gates, by pairing: false alarms, and slowdowns found.

Gates are drawn from the blocks in which `bench doctor --aa` timed identical code against itself, and
`python -m bench.gate.planted` models that were slowed down too.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.gate.gate import SECOND_STAGE_FACTOR
from bench.gate.verdicts import Limits, conclude, is_settled, judge_slowdowns
from bench.records.environment import threads_in_words
from bench.records.reading import Results
from bench.stats.intervals import Verdict
from bench.stats.ratios import block_values
from bench.text.text_table import text_table
from bench.text.units import format_duration, format_ratio

BLOCKS = 5
LIMITS = Limits(margin=0.01, tolerance=0.03)
SLOWDOWNS = (0.05, 0.1)

Blocks = Callable[[int, np.random.Generator], list[float]]
"""Draws that many blocks' log ratios."""


def gate(
    control: Blocks, cases: Sequence[Blocks], random: np.random.Generator, second_stage: bool = True
) -> Verdict:
    """One whole gate, or its first stage alone."""
    noises = [*cases, control]
    values = [blocks(BLOCKS, random) for blocks in noises]
    for found, blocks in zip(values, noises, strict=True):
        if second_stage and not is_settled(judge_slowdowns(found, LIMITS), len(cases)):
            found += blocks(SECOND_STAGE_FACTOR * BLOCKS, random)
    *judged, of_control = [judge_slowdowns(found, LIMITS) for found in values]
    return conclude(judged, of_control, LIMITS, "base", "head").verdict


def resampled(values: Sequence[float], mean: float = 0.0) -> Blocks:
    """Blocks drawn from those that a machine gave, around a mean: 0 for identical code.

    Drawn values are widened by what a mean that is taken out of a few values takes of their spread.
    """
    centred = np.asarray(values) - np.mean(values)
    widened = mean + centred * math.sqrt(len(values) / (len(values) - 1))
    return lambda count, random: list(random.choice(widened, size=count))


def shifted(blocks: Blocks, slowdown: float) -> Blocks:
    """The same noise around a slowdown."""
    return lambda count, random: [value + math.log1p(slowdown) for value in blocks(count, random)]


def planted_name(slowdown: float) -> str:
    """Revision of the models that were slowed down."""
    return f"slower-{slowdown:.0%}"


@dataclass(frozen=True)
class Measured:
    """Blocks of one case."""

    same: list[float]
    """Log ratios of identical code."""
    planted: dict[float, list[float]]
    """Log ratios of a model that was slowed down, by the slowdown; empty if none was timed."""

    def blocks(self, slowdown: float) -> Blocks:
        """The blocks that a gate of a slowdown draws from: its own if it was timed, else shifted ones."""
        if slowdown in self.planted:
            found = self.planted[slowdown]
            return resampled(found, float(np.mean(found)))
        same = resampled(self.same)
        return shifted(same, slowdown) if slowdown else same


def self_comparisons(results: Results) -> dict[str, list[float]]:
    """Log ratios of the blocks of each case in a `bench doctor --aa` run."""
    bases = [solo.case.id for solo in results.solos.values() if solo.status == "ok"]
    values = {name: _against(results, name, "control") for name in bases}
    return {name: found for name, found in values.items() if len(found) > 2}


def measured(results: Results) -> dict[str, Measured]:
    """Blocks of identical code and of planted slowdowns, by model."""
    return {
        _model(name): Measured(
            same,
            {
                slowdown: found
                for slowdown in SLOWDOWNS
                if len(found := _against(results, name, planted_name(slowdown))) > 2
            },
        )
        for name, same in self_comparisons(results).items()
    }


def _against(results: Results, base: str, revision: str) -> list[float]:
    """Log ratios of a revision's blocks to those of the base."""
    other = base.replace("@base", f"@{revision}")
    return block_values(results.samples, other, base, estimator=results.header.estimator)


def section(runs: Sequence[Results], experiments: int) -> str:
    """The chapter of the study on one machine: a table for each pairing, and how its blocks were made."""
    return "\n".join([TEXT.format(experiments=experiments), *(_of(run, experiments) for run in runs)])


TEXT = """
## A machine

Identical code against itself, block by block (`bench doctor --aa`). Gates are drawn from these blocks with
replacement, without their mean ({experiments:,} per figure): of each case alone, and of the whole suite,
with Holm's correction, in which one case is slower, drawn anew for each gate, or every one is. A slower case
is drawn from blocks in which the slowdown was planted, if there are any (`python -m bench.gate.planted`),
else from those of identical code, shifted. The noise is the standard deviation of a block's log ratio.
"""


def _of(run: Results, experiments: int) -> str:
    """One pairing."""
    environment = run.header.environment
    found = measured(run)
    how = threads_in_words(environment.threads, environment.pairing)
    lines = [_line(name, case) for name, case in found.items()]
    load = environment.load_average
    return "\n".join(
        [
            f"### {'In turns' if environment.pairing == 'turns' else 'In a duet'}",
            "",
            f"{environment.hardware}, {how}, torch {environment.torch}, load {load:.1f} when it began; "
            f"{_seconds_per_block(run)} per block of the suite.",
            "",
            *lines,
            "",
            _table(found, experiments),
            "",
        ]
    )


def _line(name: str, case: Measured) -> str:
    slower = [
        f", {slowdown:.0%} planted: {math.expm1(np.mean(values)):+.1%}"
        for slowdown, values in case.planted.items()
    ]
    return (
        f"- {name}: {len(case.same)} blocks, noise {np.std(case.same, ddof=1):.2%}, "
        f"ratio {format_ratio(math.exp(np.mean(case.same)))}{''.join(slower)}"
    )


def _seconds_per_block(run: Results) -> str:
    """Timed seconds of one block: both sides of a duet run at the same time."""
    sides = 2 if run.header.environment.pairing == "duet" else 1
    blocks = len({sample.block for sample in run.samples})
    timed = sum(sample.seconds for sample in run.samples)
    return f"{format_duration(timed / sides / max(1, blocks))} timed"


def _table(noises: Mapping[str, Measured], experiments: int) -> str:
    names, every = list(noises), list(noises.values())
    rows = [[name, *_figures([noises[name]], "one", experiments)] for name in names]
    if len(every) > 1:
        rows.append(["suite, one case slower", *_figures(every, "one", experiments)])
        rows.append(["suite, every case slower", *_figures(every, "every", experiments)])
    headers = ["Gate of", "A/A: alarm", "A/A: passed", *(f"{slow:.0%} slower: found" for slow in SLOWDOWNS)]
    return text_table(rows, headers, ["left", *(len(headers) - 1) * ["right"]], "pipe")


def _figures(cases: Sequence[Measured], slower: str, experiments: int) -> list[str]:
    """Alarms and passes of identical code, then how often each slowdown is found."""
    same = rates(cases, 0.0, slower, experiments)
    found = [rates(cases, slowdown, slower, experiments)["REGRESSED"] for slowdown in SLOWDOWNS]
    return [f"{share:.1%}" for share in (same["REGRESSED"], same["PASSED"], *found)]


def rates(
    cases: Sequence[Measured], slowdown: float, slower: str, experiments: int, second_stage: bool = True
) -> dict[Verdict, float]:
    """Shares of gates by verdict. slower: whether one case is, or every one."""
    random = np.random.default_rng(0)
    counts: dict[Verdict, float] = {"REGRESSED": 0, "PASSED": 0, "INCONCLUSIVE": 0}
    same, slow = ([case.blocks(by) for case in cases] for by in (0.0, slowdown))
    for _ in range(experiments):
        head = slow
        if slower == "one":
            chosen = int(random.integers(len(cases)))
            head = [*same[:chosen], slow[chosen], *same[chosen + 1 :]]
        control = same[int(random.integers(len(cases)))]
        counts[gate(control, head, random, second_stage)] += 1 / experiments
    return counts


def _model(name: str) -> str:
    return name.partition("/")[0]
