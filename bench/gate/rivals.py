"""Other tools' rules on a machine's own timings: false alarms, and slowdowns found, beside the gate's.

Run as `python -m bench.gate.rivals NOISE.jsonl NOISE-duet.jsonl`, files of `bench doctor --aa`. Every rule is
given as many timed runs of warm processes as a gate's first stage has, drawn from those in the file; head's
are slower by the planted share. What a tool spends on starting processes is not charged to it.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from bench.errors import UsageError
from bench.gate.machine_study import BLOCKS, LIMITS, SLOWDOWNS, Measured, measured, rates
from bench.records.reading import Results, read
from bench.stats.intervals import Array
from bench.text.text_table import text_table

EXPERIMENTS = 1000
THRESHOLD = 1 + LIMITS.tolerance
"""Ratio from which a tool with a threshold alarms: the gate's tolerance."""
SURE = 0.002
"""Most that the p-value of asv's test may be."""
ASV_ROUNDS = 2
"""Processes per side of `asv continuous`, by default."""

Runs = tuple[Array, Array]
"""Seconds of base's and of head's runs, each `(process, run)`."""
Random = np.random.Generator
Draw = Callable[[Sequence[Runs], Random], Runs]
"""Runs as a tool's order of processes gives them, from blocks of a machine."""
Rule = Callable[[Array, Array], bool]
"""Whether a tool alarms, by the runs of base and of head."""


def one_process_each(blocks: Sequence[Runs], random: Random) -> Runs:
    """One process for base, and one for head at another time."""
    base, head = random.integers(len(blocks), size=2)
    return blocks[base][0], blocks[head][1]


def one_after_the_other(blocks: Sequence[Runs], random: Random) -> Runs:
    """All processes of base, then all of head."""
    base, head = random.integers(len(blocks), size=(2, BLOCKS))
    return (
        np.concatenate([blocks[number][0] for number in base]),
        np.concatenate([blocks[number][1] for number in head]),
    )


def rounds_interleaved(blocks: Sequence[Runs], random: Random) -> Runs:
    """Processes of base and of head by turns."""
    chosen = random.integers(len(blocks), size=ASV_ROUNDS)
    return (
        np.concatenate([blocks[number][0] for number in chosen]),
        np.concatenate([blocks[number][1] for number in chosen]),
    )


def mean_above(base: Array, head: Array) -> bool:
    """`--benchmark-compare-fail=mean:3%`."""
    return bool(head.mean() > THRESHOLD * base.mean())


def min_above(base: Array, head: Array) -> bool:
    """`--benchmark-compare-fail=min:3%`."""
    return bool(head.min() > THRESHOLD * base.min())


def ratio_above_its_error(base: Array, head: Array) -> bool:
    """The ratio of mean process times, `1.05 ± 0.02 times faster`, is above 1 by more than its error."""
    before, after = base.mean(axis=1), head.mean(axis=1)
    ratio = after.mean() / before.mean()
    error = ratio * np.hypot(before.std(ddof=1) / before.mean(), after.std(ddof=1) / after.mean())
    return bool(ratio - error > 1)


def median_above_and_ranks_differ(base: Array, head: Array) -> bool:
    """`asv continuous --factor 1.03`: the medians' ratio is above, and the Mann-Whitney test is sure."""
    if np.median(head) <= THRESHOLD * np.median(base):
        return False
    return bool(stats.mannwhitneyu(base.ravel(), head.ravel()).pvalue < SURE)


RIVALS: Mapping[str, tuple[Draw, Rule]] = {
    "pytest-benchmark, `compare-fail=mean:3%`": (one_process_each, mean_above),
    "pytest-benchmark, `compare-fail=min:3%`": (one_process_each, min_above),
    "hyperfine, its ± excludes 1": (one_after_the_other, ratio_above_its_error),
    "asv continuous, `--factor 1.03 --interleave-rounds`": (
        rounds_interleaved,
        median_above_and_ranks_differ,
    ),
}


def blocks_of(results: Results) -> list[list[Runs]]:
    """Runs of base and of identical code, by case and block, in seconds per step."""
    found: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for sample in results.samples:
        name, _, revision = sample.case_id.rpartition("@")
        found[name, sample.block][revision].append(sample.step_seconds)
    cases: dict[str, list[Runs]] = defaultdict(list)
    for (name, _), sides in found.items():
        if {"base", "control"} <= sides.keys():
            cases[name].append((_process(sides["base"]), _process(sides["control"])))
    return [blocks for blocks in cases.values() if len(blocks) > 2]


def _process(runs: Sequence[float]) -> Array:
    return np.asarray(runs, dtype=np.float64)[None]


def alarms(
    cases: Sequence[Sequence[Runs]], draw: Draw, rule: Rule, slowdown: float, experiments: int
) -> float:
    """Share of experiments with an alarm, over all cases alike."""
    random = np.random.default_rng(0)
    count = 0
    for blocks in cases:
        for _ in range(experiments):
            base, head = draw(_same_length(blocks), random)
            count += rule(_resampled(base, random), (1 + slowdown) * _resampled(head, random))
    return count / (experiments * len(cases))


def _same_length(blocks: Sequence[Runs]) -> list[Runs]:
    """Disturbed runs were repeated: as many of each process as the shortest has."""
    least = min(runs.shape[1] for block in blocks for runs in block)
    return [(base[:, :least], head[:, :least]) for base, head in blocks]


def _resampled(runs: Array, random: Random) -> Array:
    """As many runs as a gate's first stage has, spread over these processes."""
    per_process = BLOCKS * runs.shape[1] // len(runs)
    return np.stack([random.choice(process, size=per_process) for process in runs])


def table(runs: Sequence[Results], experiments: int = EXPERIMENTS) -> str:
    """A row per tool, with false alarms and slowdowns found. runs: of `bench doctor --aa`."""
    cases = [blocks for run in runs if run.header.environment.pairing == "turns" for blocks in blocks_of(run)]
    rows = [
        [name, *(f"{alarms(cases, *of, slowdown, experiments):.1%}" for slowdown in (0.0, *SLOWDOWNS))]
        for name, of in RIVALS.items()
    ]
    for run in runs:
        every = list(measured(run).values())
        found = [
            np.mean([_found_at_first(case, slowdown, experiments) for case in every])
            for slowdown in (0.0, *SLOWDOWNS)
        ]
        pairing = run.header.environment.pairing
        rows.append([f"`bench regress --pairing {pairing}`", *(f"{share:.1%}" for share in found)])
    headers = ["Tool and rule", "A/A: alarm", *(f"{slowdown:.0%} slower: found" for slowdown in SLOWDOWNS)]
    return text_table(rows, headers, ["left", *(len(headers) - 1) * ["right"]], "pipe")


def _found_at_first(case: Measured, slowdown: float, experiments: int) -> float:
    """Share of gates that alarm after their first stage, which has as many runs as the other tools."""
    return rates([case], slowdown, "one", experiments, second_stage=False)["REGRESSED"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.gate.rivals", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="result files of bench doctor --aa")
    try:
        runs = [read(file) for file in parser.parse_args().files]
    except UsageError as error:
        parser.error(str(error))
    if not any(run.header.environment.pairing == "turns" for run in runs):
        parser.error("name the file of the blocks in turns: other tools time nothing side by side")
    print(table(runs))


if __name__ == "__main__":
    main()
