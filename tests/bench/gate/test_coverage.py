"""The study of estimators: what it simulates is what runs do, and what is asked of intervals holds in it."""

import numpy as np
import pytest

from bench.gate.coverage import CHOSEN, ESTIMATES, coverage, experiments, half_widths
from bench.gate.false_alarms import NOISES
from bench.records.run import ESTIMATOR
from bench.stats.intervals import ratio_interval
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
