"""Ratios and intervals, as plain functions on arrays."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import (
    Interval,
    block_value,
    is_stationary,
    ratio_interval,
    round_log_ratio,
    student_t,
)

positive = st.floats(0.01, 100)


@given(positive, positive, st.floats(-0.001, 0.001), st.permutations(range(5)))
def test_linear_drift_cancels_in_a_palindromic_round(base, other, drift, order):
    """Every visit takes its own time plus drift · position; the ratio of the sums shows no order."""
    visits = {name: [] for name in order}
    for position, name in enumerate([*order, *reversed(order)]):
        visits[name].append(drift * position)
    sums = {name: sum(values) for name, values in visits.items()}
    assert max(sums.values()) == pytest.approx(min(sums.values()), abs=1e-12)
    first, second = order[0], order[1]
    with_drift = round_log_ratio([base + d for d in visits[first]], [other + d for d in visits[second]])
    common = sums[first] / 2
    assert with_drift == pytest.approx(math.log(base + common) - math.log(other + common))


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=20))
def test_interval_holds_its_ratio_and_is_antisymmetric(values):
    interval = ratio_interval(values)
    assert interval.low <= interval.ratio * (1 + 1e-12)
    assert interval.ratio <= interval.high * (1 + 1e-12)
    mirrored = ratio_interval([-value for value in values]).inverse()
    assert mirrored.ratio == pytest.approx(interval.ratio)
    assert mirrored.low == pytest.approx(interval.low)
    assert mirrored.high == pytest.approx(interval.high)


@pytest.mark.parametrize("blocks", [1, 2])
def test_fewer_than_three_blocks_give_no_interval(blocks):
    interval = ratio_interval([0.5] * blocks)
    assert (interval.low, interval.high) == (None, None)
    assert interval.half_width == math.inf
    assert interval.ratio == pytest.approx(math.exp(0.5))


def test_interval_covers_at_its_rate():
    """Of 2,000 experiments of 5 blocks, 95% of the intervals hold the truth."""
    generator = np.random.default_rng(0)
    truth = 0.7
    blocks = generator.normal(truth, 0.1, size=(2000, 5))
    hits = [interval.low <= math.exp(truth) <= interval.high for interval in map(ratio_interval, blocks)]
    assert 0.935 <= np.mean(hits) <= 0.965


def test_student_t_matches_the_printed_table():
    assert student_t(2, 0.975) == pytest.approx(4.302653, abs=1e-5)
    assert student_t(4, 0.975) == pytest.approx(2.776445, abs=1e-5)


def test_block_value_is_the_median_and_needs_a_round():
    assert block_value([1.0, 9.0, 2.0]) == 2.0
    with pytest.raises(ValueError, match="without a round"):
        block_value([])
    with pytest.raises(ValueError, match="no block"):
        ratio_interval([])


def test_half_width_is_relative():
    assert Interval(1.0, 1 / 1.03, 1.03, 5).half_width == pytest.approx(math.log(1.03))


@pytest.mark.parametrize(
    ("times", "expected"),
    [([1.0, 1.0], False), ([5.0, 1.0, 1.02, 0.98], True), ([1.0, 0.8, 0.6], False), ([1.0, 1.0, 1.3], False)],
)
def test_stationary(times, expected):
    assert is_stationary(times) is expected
