"""Ratios and intervals, as plain functions on arrays."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.stats.intervals import (
    Interval,
    average_ratio,
    block_value,
    holm,
    lower_bound,
    p_value_above,
    ratio_interval,
    smallest_difference,
    student_t,
    unpaired_ratio,
    upper_bound,
    verdict,
)
from bench.stats.rounds import VALUES, median_of_differences, median_of_rounds, round_log_ratio
from bench.stats.stationary import is_stationary

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
    """The truth is in 95% of the intervals, over 2,000 experiments of 5 blocks."""
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


rounds_of_two = st.lists(
    st.tuples(st.lists(positive, min_size=2, max_size=4), st.lists(positive, min_size=2, max_size=4)),
    min_size=1,
    max_size=5,
)


@given(rounds_of_two, st.sampled_from(sorted(VALUES)), st.floats(0.1, 10))
def test_a_blocks_value_mirrors_and_scales_with_its_times(rounds, name, factor):
    value = VALUES[name]
    mirrored = [(other, baseline) for baseline, other in rounds]
    assert value(mirrored) == pytest.approx(-value(rounds), abs=1e-9)
    slower = [(baseline, [factor * seconds for seconds in other]) for baseline, other in rounds]
    assert value(slower) == pytest.approx(value(rounds) - math.log(factor), abs=1e-9)


def test_one_burst_leaves_the_median_of_differences_alone():
    """One run of four takes eight times as long; the median of two rounds' ratios is moved by half of it."""
    calm, burst = ([1.0, 1.01], [0.5, 0.5]), ([1.0, 1.0], [4.0, 0.5])
    assert median_of_differences([calm, burst]) == pytest.approx(math.log(2), abs=0.01)
    assert median_of_rounds([calm, burst]) < math.log(2) - 0.7


def test_records_of_two_visits_have_the_value_that_they_had():
    """To the last bit: files of earlier versions print as they did."""
    random = np.random.default_rng(0)
    for _ in range(100):
        baseline, other = random.uniform(0.01, 10, size=(2, 2)).tolist()
        assert round_log_ratio(baseline, other) == math.log(sum(baseline)) - math.log(sum(other))


def test_half_width_is_relative():
    assert Interval(1.0, 1 / 1.03, 1.03, 5).half_width == pytest.approx(math.log(1.03))


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([1.0, 1.0], False),
        ([5.0, 1.0, 1.02, 0.98], True),
        ([1.0, 0.8, 0.6], False),
        ([1.0, 1.0, 1.3], False),
        ([1.09, 1.04, 1.0], False),
        ([1.0, 1.04, 1.09], True),
        ([1.01, 1.0, 0.99], True),
    ],
)
def test_stationary(times, expected):
    """Within a tenth of each other, and not each clearly faster than the one before."""
    assert is_stationary(times) is expected


def test_a_warm_up_that_descends_slowly_goes_on_until_it_is_flat():
    times = [1 + 0.5 * 0.9**step for step in range(60)]
    first = next(count for count in range(3, 60) if is_stationary(times[:count]))
    assert times[first - 3] - times[first - 1] < 0.05 * times[first - 2]
    assert times[first - 4] - times[first - 2] > 0.05 * times[first - 3]


log_ratios = st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=12)


@given(log_ratios, st.floats(0.6, 0.999))
def test_one_sided_bounds_hold_the_mean_and_mirror_each_other(values, confidence):
    low, high = lower_bound(values, confidence), upper_bound(values, confidence)
    assert low <= np.mean(values) + 1e-12
    assert high >= np.mean(values) - 1e-12
    assert lower_bound([-value for value in values], confidence) == pytest.approx(-high, abs=1e-12)


@given(log_ratios, st.floats(0.6, 0.99), st.floats(-0.5, 0.5))
def test_bounds_shift_with_the_values_and_widen_with_confidence(values, confidence, shift):
    assert lower_bound([value + shift for value in values], confidence) == pytest.approx(
        lower_bound(values, confidence) + shift, abs=1e-9
    )
    assert lower_bound(values, 0.995) <= lower_bound(values, confidence) + 1e-12


@given(log_ratios, st.floats(-0.3, 0.3))
def test_the_p_value_and_the_bound_agree(values, threshold):
    """The bound exceeds a threshold exactly where the test against it rejects."""
    assume(abs(p_value_above(values, threshold) - 0.01) > 1e-6)
    assume(np.std(values) > 1e-6)
    assert (lower_bound(values, 0.99) > threshold) == (p_value_above(values, threshold) < 0.01)


def test_p_value_matches_the_printed_table():
    """Mean 1, standard error 1, 4 degrees of freedom: P(T > 1) = 0.18695."""
    values = [1 + deviation * math.sqrt(5 / 2.5) for deviation in (-2, -1, 0, 1, 2)]
    assert np.std(values, ddof=1) / math.sqrt(5) == pytest.approx(1.0)
    assert p_value_above(values, 0.0) == pytest.approx(0.186950, abs=1e-5)


@pytest.mark.parametrize(("values", "expected"), [([0.1] * 4, 0.0), ([-0.1] * 4, 1.0), ([9.0, 9.0], 1.0)])
def test_p_value_without_spread_or_blocks(values, expected):
    assert p_value_above(values, 0.0) == expected


def test_too_few_blocks_bound_nothing():
    assert (lower_bound([0.1, 0.1]), upper_bound([0.1, 0.1])) == (-math.inf, math.inf)
    assert verdict([5.0, 5.0], 0.01, 0.03) == "INCONCLUSIVE"
    with pytest.raises(ValueError, match="no block"):
        upper_bound([])


@given(log_ratios, st.floats(0, 0.1), st.floats(0, 0.1))
def test_a_verdict_is_monotone_in_the_slowdown(values, margin, extra):
    """Making every block slower never turns a worse verdict into a better one."""
    order = ["PASSED", "INCONCLUSIVE", "REGRESSED"]
    tolerance = margin + 0.02
    verdicts = [verdict([v + shift for v in values], margin, tolerance) for shift in (0, extra, 10.0)]
    assert [order.index(v) for v in verdicts] == sorted(order.index(v) for v in verdicts)
    assert verdicts[-1] == "REGRESSED"


p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(p_values, st.randoms())
def test_holm_rejects_between_bonferroni_and_uncorrected(values, random):
    level = 0.05
    rejected = holm(values, level)
    for p, one in zip(values, rejected, strict=True):
        assert one or p > level / len(values)
        assert not one or p <= level
    order = list(range(len(values)))
    random.shuffle(order)
    shuffled = holm([values[index] for index in order], level)
    assert sorted(zip([values[i] for i in order], shuffled, strict=True)) == sorted(
        zip(values, rejected, strict=True)
    )


def test_holm_by_hand():
    """0.01 ≤ 0.05/4, 0.013 ≤ 0.05/3, but 0.03 > 0.05/2, so 0.04 is not looked at."""
    assert holm([0.03, 0.01, 0.04, 0.013], 0.05) == [False, True, False, True]
    assert holm([], 0.05) == []


def test_the_smallest_difference_is_found_at_its_power():
    """The 99% lower bound is above zero in 90% of 4,000 experiments with just that mean."""
    truth = smallest_difference(0.02, 5)
    blocks = np.random.default_rng(1).normal(truth, 0.02, size=(4000, 5))
    assert np.mean([lower_bound(values) > 0 for values in blocks]) == pytest.approx(0.9, abs=0.015)
    assert smallest_difference(0.02, 2) == math.inf
    assert smallest_difference(0.02, 20) < truth


def test_the_average_of_ratios_is_their_geometric_mean_with_welchs_interval():
    tasks = [[0.1, 0.2, 0.3], [0.5, 0.4, 0.9, 0.6], [-0.2, -0.1, -0.3]]
    found = average_ratio([ratio_interval(values) for values in tasks])
    mean = np.mean([np.mean(values) for values in tasks])
    errors = np.array([np.var(values, ddof=1) / len(values) / 9 for values in tasks])
    degrees = errors.sum() ** 2 / (errors**2 / [2, 3, 2]).sum()
    half = student_t(degrees, 0.975) * np.sqrt(errors.sum())
    assert [math.log(value) for value in (found.low, found.ratio, found.high)] == pytest.approx(
        [mean - half, mean, mean + half]
    )
    assert found.blocks == 3
    alone = ratio_interval(tasks[0])
    assert average_ratio([alone]).low == pytest.approx(alone.low)
    assert average_ratio([alone, ratio_interval([0.1, 0.2])]).low is None
    assert average_ratio([ratio_interval([0.0] * 3)] * 2) == Interval(1.0, 1.0, 1.0, 3)
    with pytest.raises(ValueError, match="no block"):
        average_ratio([])


def test_welch_by_hand_and_against_scipy():
    """scipy.stats gives the same interval of the difference of means."""
    from scipy import stats

    first, second = [0.1, 0.2, 0.15, 0.12], [0.4, 0.3, 0.5]
    ours = unpaired_ratio(first, second)
    theirs = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert math.log(ours.low) == pytest.approx(theirs.low)
    assert math.log(ours.high) == pytest.approx(theirs.high)
    assert unpaired_ratio([0.1] * 3, [0.1] * 3) == Interval(1.0, 1.0, 1.0, 3)
    assert unpaired_ratio([0.1] * 2, [0.1] * 9).low is None
