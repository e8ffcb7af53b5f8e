"""The study of estimators: what it simulates is what runs do, and what is asked of intervals holds in it."""

import numpy as np
import pytest

from bench.gate.coverage import (
    CHOSEN,
    CHOSEN_OF_DUETS,
    DUET_ROUNDS,
    ESTIMATES,
    MOST_BLOCKS,
    OF_DUETS,
    coverage,
    duets,
    experiments,
    half_widths,
    stopped_coverage,
    worst_coverage,
)
from bench.gate.false_alarms import NOISES
from bench.records.run import ESTIMATOR
from bench.stats.intervals import STOPPING_BLOCKS, ratio_interval
from bench.stats.rounds import VALUES

BY_NAME = {noise.name: noise for noise in NOISES}


@pytest.mark.parametrize(("name", "estimator"), [(CHOSEN, ESTIMATOR), ("median of rounds", "rounds")])
def test_the_estimators_of_the_study_are_those_of_runs(name, estimator):
    times = BY_NAME["all: 1%, drift, bursts of 5%"].times(5, np.random.default_rng(3), rounds=3)
    for block, value in zip(times, ESTIMATES[name](np.log(times)), strict=True):
        assert value == pytest.approx(
            VALUES[estimator]([(second, first) for first, second in block.tolist()])
        )


def test_the_intervals_of_the_study_are_those_of_tables():
    values = experiments(BY_NAME["quiet"], ESTIMATES[CHOSEN], 5, 2, count=3)
    assert half_widths(values) == pytest.approx([ratio_interval(list(each)).half_width for each in values])


@pytest.mark.parametrize("rounds", [2, 3])
@pytest.mark.parametrize("name", [name for name in BY_NAME if "20%" not in name])
def test_95_percent_intervals_hold_the_truth_in_93_to_97_of_100(name, rounds):
    values = experiments(BY_NAME[name], ESTIMATES[CHOSEN], 5, rounds, count=1000)
    assert 0.93 <= coverage(values) <= 0.97


def test_bursts_in_a_fifth_of_the_runs_are_covered_with_three_rounds_and_never_too_rarely():
    noise, estimate = BY_NAME["bursts, 20% of the runs"], ESTIMATES[CHOSEN]
    assert 0.93 <= coverage(experiments(noise, estimate, 5, 3, count=1000)) <= 0.97
    assert coverage(experiments(noise, estimate, 5, 2, count=1000)) >= 0.95


def test_a_burst_of_eight_times_widens_no_interval_but_those_of_earlier_versions():
    noise, calm = BY_NAME["bursts to eight times, 5%"], BY_NAME["process effect 0.5%"]

    def width(noise, name):
        return float(np.median(half_widths(experiments(noise, ESTIMATES[name], 5, 2, count=500))))

    assert width(noise, CHOSEN) < 1.2 * width(calm, CHOSEN)
    assert width(noise, "median of rounds") > 10 * width(calm, "median of rounds")


@pytest.mark.parametrize("rounds", DUET_ROUNDS)
@pytest.mark.parametrize("name", [name for name in BY_NAME if "20%" not in name])
def test_intervals_of_duets_hold_the_truth_in_93_to_97_of_100(name, rounds):
    values = duets(BY_NAME[name], OF_DUETS[CHOSEN_OF_DUETS], 5, rounds, count=1000)
    assert 0.93 <= coverage(values) <= 0.97


def test_a_burst_widens_no_interval_of_a_duet_of_three_rounds():
    noise, calm = BY_NAME["bursts to eight times, 5%"], BY_NAME["process effect 0.5%"]

    def width(noise, rounds):
        return float(np.median(half_widths(duets(noise, OF_DUETS[CHOSEN_OF_DUETS], 5, rounds, count=500))))

    assert width(noise, 3) < 2 * width(calm, 3)
    assert width(noise, 2) > 10 * width(calm, 2)


@pytest.mark.parametrize("name", ["quiet", "process effect 1%", "wandering, 1% per visit"])
def test_runs_that_end_when_they_are_narrow_hold_the_truth_in_93_to_97_of_100(name):
    values = experiments(BY_NAME[name], ESTIMATES[CHOSEN], MOST_BLOCKS, 2, count=10_000)
    assert 0.93 <= worst_coverage(values) <= 0.97
    assert worst_coverage(values, least=3) < 0.92, "from three blocks on they would not"


def test_the_simulated_end_is_that_of_runs():
    values, target, hits = np.random.default_rng(0).normal(0, 0.01, size=(200, MOST_BLOCKS)), 0.01, []
    for run in values:
        intervals = [ratio_interval(list(run[:blocks])) for blocks in range(STOPPING_BLOCKS, MOST_BLOCKS + 1)]
        end = next((found for found in intervals if found.half_width <= target), intervals[-1])
        hits.append(end.low <= 1 <= end.high)
    assert stopped_coverage(values, target) == pytest.approx(np.mean(hits))
