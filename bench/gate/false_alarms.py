"""Rates of the gate's false alarms and of its finds: under simulated noise, and a machine's own.

Run as `python -m bench.gate.false_alarms [NOISE.jsonl NOISE-duet.jsonl]`; it prints the first chapters of
docs/statistics.md. The files are what `bench doctor --aa --out NOISE.jsonl` wrote, in turns and in a duet.
With `--machine` it prints the machine's chapter alone, in seconds: the simulated gates take minutes.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.errors import UsageError
from bench.gate import machine_study
from bench.gate.gate import ROUNDS, SECOND_STAGE_FACTOR
from bench.gate.machine_study import BLOCKS, LIMITS, Blocks, shifted
from bench.records.reading import Results, read
from bench.stats.intervals import Array, Verdict
from bench.text.text_table import text_table

EXPERIMENTS = 1000
SLOWDOWN = 0.05
SLOWER_HALF = 0.03
"""Log of the ratio that the halves of the cores add to a pair of a duet, and take from the next one."""


@dataclass(frozen=True)
class NoiseModel:
    """Disturbances of a timed run, each as a relative standard deviation or size."""

    name: str
    process: float = 0.0
    """Effect of a process (addresses, caches), which all its runs share."""
    run: float = 0.005
    """Noise of a single run."""
    drift: float = 0.0
    """Linear drift from one visit to the next (clocks, temperature)."""
    burst: float = 0.0
    """Probability that other work makes a run take longer."""
    burst_factor: float = 1.5
    """Factor by which a burst lengthens a visit."""
    wander: float = 0.0
    """Step of the machine's random walk from one visit to the next, which both sides share."""

    def blocks(self, count: int, random: np.random.Generator) -> list[float]:
        """Log ratios of identical code, by the design and the estimator of a real gate."""
        first, second = np.moveaxis(np.log(self.times(count, random)), 2, 0).reshape(2, count, -1)
        return list(np.median(second[:, :, None] - first[:, None, :], axis=(-2, -1)))

    def times(self, count: int, random: np.random.Generator, rounds: int = ROUNDS) -> Array:
        """Run times `(count, rounds, side, visit)`: palindromes, A B B A or B A A B."""
        shape = (count, rounds, 2, 2)
        luck = random.normal(0, self.process, size=(count, 1, 2, 1))
        first = random.integers(2, size=(count, rounds, 1))
        # Of the four places of a round, the outer two are the first side's.
        outer = first == np.arange(2)
        position = np.where(outer[..., None], [0, 3], [1, 2])
        walk = random.normal(0, self.wander, size=(count, 4 * rounds)).cumsum(axis=-1)
        state = np.take_along_axis(
            walk.reshape(count, rounds, 4), position.reshape(count, rounds, 4), axis=-1
        )
        noise = luck + state.reshape(shape) + random.normal(0, self.run, size=shape)
        seconds = np.exp(noise) + self.drift * position
        factor = np.where(random.random(shape) < self.burst, self.burst_factor, 1.0)
        return np.asarray(factor * seconds)

    def duet_blocks(self, count: int, random: np.random.Generator) -> list[float]:
        """The same of a duet."""
        return list(value_of_pairs(self.pairs(count, random)))

    def pairs(self, count: int, random: np.random.Generator, rounds: int = ROUNDS) -> Array:
        """Log ratios `(count, rounds, half)` of runs at the same time, one on each half of the cores.

        What changes the machine's speed changes both sides'; a burst hits one of them alone.
        """
        luck = np.diff(random.normal(0, self.process, size=(count, 1, 1, 2)))[..., 0]
        runs = random.normal(0, self.run, size=(count, rounds, 2, 2))
        bursts = random.random(runs.shape) < self.burst
        sides = runs + np.where(bursts, math.log(self.burst_factor), 0.0)
        return np.asarray(luck + np.diff(sides)[..., 0] + np.array([SLOWER_HALF, -SLOWER_HALF]))


def value_of_pairs(pairs: Array) -> Array:
    """Block values of log ratios `(blocks, rounds, half)`, as `bench.stats.duets` has them."""
    return np.asarray(np.median(pairs, axis=1).mean(axis=-1))


NOISES = (
    NoiseModel("quiet", process=0.002),
    NoiseModel("process effect 0.5%", process=0.005),
    NoiseModel("process effect 1%", process=0.01),
    NoiseModel("process effect 2%", process=0.02),
    NoiseModel("drift, 2% per visit", process=0.005, drift=0.02),
    NoiseModel("wandering, 1% per visit", process=0.005, wander=0.01),
    NoiseModel("bursts, 5% of the runs", process=0.005, burst=0.05),
    NoiseModel("bursts, 20% of the runs", process=0.005, burst=0.2),
    NoiseModel("bursts to eight times, 5%", process=0.005, burst=0.05, burst_factor=8.0),
    NoiseModel("all: 1%, drift, bursts of 5%", process=0.01, drift=0.02, burst=0.05),
)


def gate(blocks: Blocks, slowdown: float, cases: int, random: np.random.Generator) -> Verdict:
    """One whole gate: its first case slower by `slowdown`, the others and the control unchanged."""
    return machine_study.gate(blocks, [shifted(blocks, slowdown), *[blocks] * (cases - 1)], random)


def rates(
    blocks: Blocks, slowdown: float, cases: int, experiments: int, seed: int = 0
) -> dict[Verdict, float]:
    """Share of gates that end in each verdict."""
    random = np.random.default_rng(seed)
    verdicts = [gate(blocks, slowdown, cases, random) for _ in range(experiments)]
    names: tuple[Verdict, ...] = ("REGRESSED", "PASSED", "INCONCLUSIVE")
    return {name: verdicts.count(name) / experiments for name in names}


def table(noises: Sequence[tuple[str, Blocks]], cases: int) -> str:
    """Rates of false alarms and of planted slowdowns found, one row per noise model."""
    rows = []
    for name, blocks in noises:
        same, slower = (rates(blocks, slowdown, cases, EXPERIMENTS) for slowdown in (0.0, SLOWDOWN))
        figures = (same["REGRESSED"], same["PASSED"], slower["REGRESSED"], slower["PASSED"])
        rows.append([name, *(f"{figure:.1%}" for figure in figures)])
    headers = ["Noise", "A/A: alarm", "A/A: passed", "5% slower: found", "5% slower: passed"]
    align = ["left", *4 * ["right"]]
    return text_table(rows, headers, align, "pipe")


TEXT = """# Statistics of the gate

The chapters *Simulated noise* and *A machine* are printed by `python -m bench.gate.false_alarms{argument}`,
that on estimators by `python -m bench.gate.coverage`; the others name their own command.

A gate (`bench regress`) times every case of two revisions in {blocks} blocks, each of fresh processes and
{rounds} rounds of A B B A. A block's value is the median of the log ratios of each run of head to each of
base. A case has REGRESSED when the one-sided 99% lower bound of its slowdown (Student's t over the blocks)
exceeds {margin:.0%}, and PASSED when its upper bound is under {tolerance:.0%}. A case that is neither
gets {more} blocks more, and is judged again by all of its blocks. Over all cases an alarm needs Holm's
correction; and base against itself, the control, must pass, or the whole gate is INCONCLUSIVE.

The aim: an alarm in at most 1% of the gates of unchanged code; a 5% slowdown found in at least 90% if
the process effect is at most 1%.

## Simulated noise

Each row is {experiments:,} whole gates, control and second stage included, judged as real ones are. A run has
0.5% noise of its own in every row; the process effect is luck that all runs of a process share, which no
number of steps averages out. A burst makes a run take half as long again, or eight times as long; a machine
that wanders changes its speed from run to run, for both sides. What is neither found nor passed is
INCONCLUSIVE: a gate of a noisy machine says so and raises no false alarm.

One case, in turns:

{one}

Five cases, one of them slower in the last two columns:

{five}

In a duet, what changes the machine's speed changes both sides', so that drift and wandering are not in the
ratio; a burst here hits one side alone, which is the worst that it can do. One half of the cores is slower
by {half:.0%}. One case:

{one_duet}

Five cases:

{five_duet}
"""


def report(runs: Sequence[Results] = ()) -> str:
    """The study as markdown. runs: of `bench doctor --aa`, one per pairing."""
    turns = [(noise.name, noise.blocks) for noise in NOISES]
    duets = [(noise.name, noise.duet_blocks) for noise in NOISES]
    text = TEXT.format(
        argument="".join(f" {Path(run.path).name}" for run in runs),
        blocks=BLOCKS,
        rounds=ROUNDS,
        margin=LIMITS.margin,
        tolerance=LIMITS.tolerance,
        more=SECOND_STAGE_FACTOR * BLOCKS,
        experiments=EXPERIMENTS,
        one=table(turns, 1),
        five=table(turns, 5),
        half=SLOWER_HALF,
        one_duet=table(duets, 1),
        five_duet=table(duets, 5),
    )
    return text + (machine_study.section(runs, EXPERIMENTS) if runs else "")


def main() -> None:
    """Print the study, or with `--machine` the chapter on a machine."""
    parser = argparse.ArgumentParser(prog="python -m bench.gate.false_alarms", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="result files of bench doctor --aa")
    parser.add_argument("--machine", action="store_true", help="the machine's chapter alone, in seconds")
    options = parser.parse_args()
    if options.machine and not options.files:
        parser.error("--machine: name the files of bench doctor --aa")
    try:
        runs = [read(file) for file in options.files]
    except UsageError as error:
        parser.error(str(error))
    print(machine_study.section(runs, EXPERIMENTS) if options.machine else report(runs), end="")


if __name__ == "__main__":
    main()
