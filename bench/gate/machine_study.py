"""What a machine's own noise makes of gates, by pairing: false alarms, and slowdowns found.

Gates are drawn from the blocks in which `bench doctor --aa` timed identical code against itself.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bench.gate.gate import SECOND_STAGE_FACTOR
from bench.gate.verdicts import Limits, conclude, is_settled, judge_slowdowns
from bench.records.reading import Results
from bench.records.run import threads_in_words
from bench.stats.intervals import Verdict
from bench.stats.ratios import block_values
from bench.text.text_table import text_table
from bench.text.units import format_duration, format_ratio

BLOCKS = 5
LIMITS = Limits(margin=0.01, tolerance=0.03)
SLOWDOWNS = (0.05, 0.1)

Blocks = Callable[[int, np.random.Generator], list[float]]
"""That many blocks' log ratios of identical code."""


def gate(
    control: Blocks, cases: Sequence[Blocks], slowdowns: Sequence[float], random: np.random.Generator
) -> Verdict:
    """One whole gate, second stage included: its cases slower by so much each, the control unchanged."""
    noises = [*cases, control]
    shifts = [*map(math.log1p, slowdowns), 0.0]
    values = [
        [value + shift for value in blocks(BLOCKS, random)]
        for blocks, shift in zip(noises, shifts, strict=True)
    ]
    for found, blocks, shift in zip(values, noises, shifts, strict=True):
        if not is_settled(judge_slowdowns(found, LIMITS), len(cases)):
            found += [value + shift for value in blocks(SECOND_STAGE_FACTOR * BLOCKS, random)]
    *judged, of_control = [judge_slowdowns(found, LIMITS) for found in values]
    return conclude(judged, of_control, LIMITS, "base", "head").verdict


def resampled(values: Sequence[float]) -> Blocks:
    """Blocks drawn from those that a machine gave, without their mean, which is 0 for identical code.

    Drawn values are widened by what a mean that is taken out of a few values takes of their spread.
    """
    centred = np.asarray(values) - np.mean(values)
    widened = centred * math.sqrt(len(values) / (len(values) - 1))
    return lambda count, random: list(random.choice(widened, size=count))


def self_comparisons(results: Results) -> dict[str, list[float]]:
    """Log ratios of the blocks of each case in a `bench doctor --aa` run."""
    bases = [solo.case.id for solo in results.solos.values() if solo.status == "ok"]
    estimator = results.header.estimator
    values = {
        name: block_values(results.samples, name.replace("@base", "@control"), name, estimator=estimator)
        for name in bases
    }
    return {name: found for name, found in values.items() if len(found) > 2}


def section(runs: Sequence[Results], experiments: int) -> str:
    """The chapter of the study on one machine: a table for each pairing, and how its blocks were made."""
    return "\n".join([TEXT.format(experiments=experiments), *(_of(run, experiments) for run in runs)])


TEXT = """
## A machine

Identical code against itself, block by block (`bench doctor --aa`). Gates are drawn from these blocks with
replacement, without their mean ({experiments:,} per figure): of each case alone, and of the whole suite,
with Holm's correction, in which one case is slower, drawn anew for each gate, or every one is. The noise is
the standard deviation of a block's log ratio.
"""


def _of(run: Results, experiments: int) -> str:
    """One pairing."""
    environment = run.header.environment
    found = self_comparisons(run)
    how = threads_in_words(environment.threads, environment.pairing)
    lines = [
        f"- {_model(name)}: {len(values)} blocks, noise {np.std(values, ddof=1):.2%}, "
        f"ratio {format_ratio(math.exp(np.mean(values)))}"
        for name, values in found.items()
    ]
    noises = {_model(name): resampled(values) for name, values in found.items()}
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
            _table(noises, experiments),
            "",
        ]
    )


def _seconds_per_block(run: Results) -> str:
    """Timed seconds of one block: both sides of a duet run at the same time."""
    sides = 2 if run.header.environment.pairing == "duet" else 1
    blocks = len({sample.block for sample in run.samples})
    timed = sum(sample.seconds for sample in run.samples)
    return f"{format_duration(timed / sides / max(1, blocks))} timed"


def _table(noises: Mapping[str, Blocks], experiments: int) -> str:
    names, every = list(noises), list(noises.values())
    rows = [[name, *_figures([noises[name]], "one", experiments)] for name in names]
    if len(every) > 1:
        rows.append(["suite, one case slower", *_figures(every, "one", experiments)])
        rows.append(["suite, every case slower", *_figures(every, "every", experiments)])
    headers = ["Gate of", "A/A: alarm", "A/A: passed", *(f"{slow:.0%} slower: found" for slow in SLOWDOWNS)]
    return text_table(rows, headers, ["left", *(len(headers) - 1) * ["right"]], "pipe")


def _figures(cases: Sequence[Blocks], slower: str, experiments: int) -> list[str]:
    """Alarms and passes of identical code, then how often each slowdown is found."""
    same = _rates(cases, 0.0, slower, experiments)
    found = [_rates(cases, slowdown, slower, experiments)["REGRESSED"] for slowdown in SLOWDOWNS]
    return [f"{share:.1%}" for share in (same["REGRESSED"], same["PASSED"], *found)]


def _rates(cases: Sequence[Blocks], slowdown: float, slower: str, experiments: int) -> dict[Verdict, float]:
    random = np.random.default_rng(0)
    counts: dict[Verdict, float] = {"REGRESSED": 0, "PASSED": 0, "INCONCLUSIVE": 0}
    for _ in range(experiments):
        slowdowns = [slowdown] * len(cases)
        if slower == "one":
            chosen = int(random.integers(len(cases)))
            slowdowns = [slowdown if number == chosen else 0.0 for number in range(len(cases))]
        control = cases[int(random.integers(len(cases)))]
        counts[gate(control, cases, slowdowns, random)] += 1 / experiments
    return counts


def _model(name: str) -> str:
    return name.partition("/")[0]
