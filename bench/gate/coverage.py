"""Choice of the estimator of a block's value, and coverage of its 95% interval, by simulated noise.

Run as `python -m bench.gate.coverage`; its tables are part of docs/statistics.md.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import bootstrap, trim_mean

from bench.gate.false_alarms import NOISES, SLOWER_HALF, NoiseModel, value_of_pairs
from bench.stats.allocation import ROUNDS_OF_A_DUET, ROUNDS_WANTED
from bench.stats.intervals import MIN_BLOCKS, STOPPING_BLOCKS, Array, student_t
from bench.suites.suite import Timing
from bench.text.text_table import text_table

EXPERIMENTS = 4000
BLOCKS = (3, 5, 9)
ROUNDS = (2, 3, 6)
DUET_ROUNDS = (ROUNDS_OF_A_DUET, 6)
MOST_BLOCKS = Timing().max_blocks
"""Blocks after which a run ends, however wide its interval is."""
TARGETS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)
"""Targets of runs that end when they are narrow, in median half-widths of the fewest blocks."""
BOOTSTRAPPED = 300
"""Experiments with a bootstrap interval, which takes a thousand times as long."""

Estimate = Callable[[Array], Array]
"""Block values of the logs of run times `(blocks, rounds, side, visit)`."""


def median_of_rounds(logs: Array) -> Array:
    """Median over rounds of the log ratio of the mean times."""
    means = np.log(np.exp(logs).mean(axis=-1))
    return np.asarray(np.median(means[..., 1] - means[..., 0], axis=-1))


def of_sides(location: Callable[..., Any], logs: Array) -> Array:
    """Difference of the locations of both sides' visits, over all rounds."""
    visits = np.moveaxis(logs, 2, 0).reshape(2, len(logs), -1)
    first, second = (location(side, axis=-1) for side in visits)
    return np.asarray(second - first)


def differences_of_all(logs: Array) -> Array:
    """Median of all differences between visits of the two sides: Hodges–Lehmann."""
    visits = np.moveaxis(logs, 2, 0).reshape(2, len(logs), -1)
    return np.asarray(np.median(visits[1][:, :, None] - visits[0][:, None, :], axis=(-2, -1)))


def differences_within_rounds(logs: Array) -> Array:
    """Median of the differences between visits of the two sides in the same round."""
    found = logs[:, :, 1, :, None] - logs[:, :, 0, None, :]
    return np.asarray(np.median(found.reshape(len(logs), -1), axis=-1))


ESTIMATES: Mapping[str, Estimate] = {
    "mean of visits": partial(of_sides, np.mean),
    "median of rounds": median_of_rounds,
    "trimmed mean": partial(of_sides, partial(trim_mean, proportiontocut=0.25)),
    "median of visits": partial(of_sides, np.median),
    "differences, all": differences_of_all,
    "differences, in rounds": differences_within_rounds,
}
CHOSEN = "differences, all"


def median_across(pairs: Array) -> Array:
    """Median over all means of a log ratio of the one half and one of the other: Hodges–Lehmann."""
    here, there = np.moveaxis(pairs, 2, 0)
    return np.asarray(np.median((here[:, :, None] + there[:, None, :]) / 2, axis=(-2, -1)))


def mean_of_pairs(pairs: Array) -> Array:
    """Mean of all log ratios."""
    return np.asarray(pairs.mean(axis=(1, 2)))


OF_DUETS: Mapping[str, Estimate] = {
    "mean of pairs": mean_of_pairs,
    "median across": median_across,
    "medians of halves": value_of_pairs,
}
"""Estimates from log ratios `(blocks, rounds, half)`."""
CHOSEN_OF_DUETS = "medians of halves"


def experiments(
    noise: NoiseModel, estimate: Estimate, blocks: int, rounds: int, count: int = EXPERIMENTS, seed: int = 0
) -> Array:
    """Block values `(count, blocks)` of identical code, whose log ratio is 0."""
    random = np.random.default_rng(seed)
    logs = np.log(noise.times(count * blocks, random, rounds))
    return estimate(logs).reshape(count, blocks)


def duets(
    noise: NoiseModel, estimate: Estimate, blocks: int, rounds: int, count: int = EXPERIMENTS, seed: int = 0
) -> Array:
    """The same of blocks in which both sides run at the same time."""
    pairs = noise.pairs(count * blocks, np.random.default_rng(seed), rounds)
    return estimate(pairs).reshape(count, blocks)


def half_widths(values: Array, confidence: float = 0.95) -> Array:
    """Half-widths of Student's t interval, one per experiment."""
    blocks = values.shape[-1]
    quantile = student_t(blocks - 1, (1 + confidence) / 2)
    return np.asarray(quantile * values.std(axis=-1, ddof=1) / math.sqrt(blocks))


def coverage(values: Array) -> float:
    """Share of the experiments whose t interval holds 0."""
    return float((np.abs(values.mean(axis=-1)) <= half_widths(values)).mean())


def stopped_coverage(values: Array, target: float, least: int = STOPPING_BLOCKS) -> float:
    """Share of runs whose interval holds 0, if they end with the first block from the least one on with which
    it is under the target, or with the last block. values: `(runs, most blocks)`."""
    most = values.shape[-1]
    counts = np.arange(least, most + 1)
    widths = np.stack([half_widths(values[:, :count]) for count in counts], axis=-1)
    means = np.stack([values[:, :count].mean(axis=-1) for count in counts], axis=-1)
    ends = widths <= target
    ends[:, -1] = True
    chosen = np.arange(len(values)), ends.argmax(axis=-1)
    return float((np.abs(means[chosen]) <= widths[chosen]).mean())


def worst_coverage(values: Array, least: int = STOPPING_BLOCKS) -> float:
    """The lowest share over targets: some end nearly every run at once, some nearly none."""
    width = float(np.median(half_widths(values[:, :STOPPING_BLOCKS])))
    return min(stopped_coverage(values, share * width, least) for share in TARGETS)


def bootstrap_coverage(values: Array) -> float:
    """Share of the experiments whose bootstrap interval (BCa) over blocks holds 0."""
    found = bootstrap((values,), np.mean, axis=-1, n_resamples=999, vectorized=True, rng=0)
    low, high = found.confidence_interval
    return float(((low <= 0) & (high >= 0)).mean())


def chooser(blocks: int, rounds: int, noises: Sequence[NoiseModel] = NOISES) -> str:
    """Median half-width of the interval by each estimator, one row per noise model."""
    rows = [
        [noise.name]
        + [f"{np.median(half_widths(experiments(noise, e, blocks, rounds))):.2%}" for e in ESTIMATES.values()]
        for noise in noises
    ]
    return text_table(rows, ["Noise", *ESTIMATES], ["left", *len(ESTIMATES) * ["right"]], "pipe")


def covered(noises: Sequence[NoiseModel] = NOISES) -> str:
    """Coverage of the 95% interval by the chosen estimator, one row per noise model."""
    designs = [(blocks, rounds) for rounds in ROUNDS for blocks in BLOCKS]
    estimate = ESTIMATES[CHOSEN]
    rows = []
    for noise in noises:
        found = [f"{coverage(experiments(noise, estimate, *design)):.1%}" for design in designs]
        few = experiments(noise, estimate, 5, ROUNDS[0], BOOTSTRAPPED)
        rows.append([noise.name, *found, f"{bootstrap_coverage(few):.1%}"])
    headers = [f"{blocks} blocks, {rounds} rounds" for blocks, rounds in designs]
    headers = ["Noise", *headers, f"bootstrap, 5 blocks, {ROUNDS[0]} rounds"]
    return text_table(rows, headers, ["left", *(len(headers) - 1) * ["right"]], "pipe")


def chooser_of_duets(blocks: int, noises: Sequence[NoiseModel] = NOISES) -> str:
    """Median half-width of a duet's interval by estimator and number of rounds, one row per noise model."""
    designs = [(name, rounds) for rounds in (ROUNDS[0], *DUET_ROUNDS) for name in OF_DUETS]
    rows = [
        [noise.name]
        + [
            f"{np.median(half_widths(duets(noise, OF_DUETS[name], blocks, rounds))):.2%}"
            for name, rounds in designs
        ]
        for noise in noises
    ]
    headers = ["Noise", *(f"{name}, {rounds} rounds" for name, rounds in designs)]
    return text_table(rows, headers, ["left", *len(designs) * ["right"]], "pipe")


def covered_of_duets(noises: Sequence[NoiseModel] = NOISES) -> str:
    """Coverage of a duet's 95% interval, one row per noise model."""
    designs = [(blocks, rounds) for rounds in DUET_ROUNDS for blocks in BLOCKS]
    estimate = OF_DUETS[CHOSEN_OF_DUETS]
    rows = [
        [noise.name, *(f"{coverage(duets(noise, estimate, *design)):.1%}" for design in designs)]
        for noise in noises
    ]
    headers = ["Noise", *(f"{blocks} blocks, {rounds} rounds" for blocks, rounds in designs)]
    return text_table(rows, headers, ["left", *len(designs) * ["right"]], "pipe")


def covered_if_stopped(noises: Sequence[NoiseModel] = NOISES) -> str:
    """Lowest coverage over targets of runs that end when they are narrow, one row per noise model."""
    rows = []
    for noise in noises:
        turns = experiments(noise, ESTIMATES[CHOSEN], MOST_BLOCKS, ROUNDS_WANTED)
        duet = duets(noise, OF_DUETS[CHOSEN_OF_DUETS], MOST_BLOCKS, ROUNDS_OF_A_DUET)
        found = (worst_coverage(turns, MIN_BLOCKS), worst_coverage(turns), worst_coverage(duet))
        rows.append([noise.name, *(f"{share:.1%}" for share in found)])
    headers = [
        "Noise",
        f"from {MIN_BLOCKS} blocks on",
        f"from {STOPPING_BLOCKS} on",
        f"from {STOPPING_BLOCKS} on, duet",
    ]
    return text_table(rows, headers, ["left", *3 * ["right"]], "pipe")


TEXT = """
## The estimator of a block, and the coverage of intervals

Made by `python -m bench.gate.coverage`: {experiments:,} experiments per cell, of identical code.

Six estimators of a block's value, and the median half-width of the 95% interval that each gives with 5 blocks
of 2 rounds, that is four visits of each model, as a run has them at least if there is time:

{few}

And with 5 blocks of 6 rounds:

{many}

Used is `{chosen}`: the median of the log ratios of each visit of the one to each of the other (the
Hodges–Lehmann estimator). The mean of the visits is as narrow while nothing bursts, and worthless then; the
median of rounds, that of earlier versions, needs more than two rounds to shrug off a burst; pairing visits
within rounds gains nothing more, since a palindrome has cancelled the drift already.

How often the 95% interval (Student's t over blocks) holds the truth with that estimator:

{covered}

The aim is between 93% and 97%. With bursts in a fifth of all runs, two rounds are too few to outvote them:
the interval is then wider than it need be, and holds the truth more often. The bootstrap over blocks (BCa,
in {bootstrapped} experiments) is not used: with so few blocks its intervals are too narrow.

A run may end before its last block because its intervals are narrow enough. If it did so from three blocks
on, it would end where the spread happens to be estimated too small, and the interval would hold the truth too
rarely; it does from {stopping} blocks on. The lowest coverage over targets from {narrowest} to {widest} times
the median half-width then, of runs of one interval and up to {most} blocks, of {rounds} rounds each or
{duet_rounds} in a duet:

{stopped}

Side by side, what changes the machine's speed is in both runs of a pair; a burst here hits one side alone,
and one half of the cores is slower by {half:.0%}. The median half-width with 5 blocks:

{few_duets}

Used is `{chosen_of_duets}`: the mean of the median with the baseline on the one half and of that with it on
the other. The median over all means of a pair from either half is a little narrower without bursts, and is
moved by fewer of them: a burst in a third of either half's pairs is in more than half of the means. With two
rounds each half has two pairs, and no median shrugs off a burst in one of them: a duet has three rounds at
least if there is time, with `--quick` too. How often its interval holds the truth:

{covered_duets}
"""


def report() -> str:
    """The study as markdown."""
    return TEXT.format(
        experiments=EXPERIMENTS,
        few=chooser(5, ROUNDS[0]),
        many=chooser(5, ROUNDS[-1]),
        chosen=CHOSEN,
        covered=covered(),
        bootstrapped=BOOTSTRAPPED,
        stopping=STOPPING_BLOCKS,
        narrowest=TARGETS[0],
        widest=TARGETS[-1],
        most=MOST_BLOCKS,
        rounds=ROUNDS_WANTED,
        duet_rounds=ROUNDS_OF_A_DUET,
        stopped=covered_if_stopped(),
        half=SLOWER_HALF,
        few_duets=chooser_of_duets(5),
        chosen_of_duets=CHOSEN_OF_DUETS,
        covered_duets=covered_of_duets(),
    )


if __name__ == "__main__":
    print(report(), end="")
