"""The study of the gate: its simulation has the gate's design, and what is asked of the gate holds in it."""

import numpy as np
import pytest

from bench.gate.false_alarms import NOISES, NoiseModel, gate, rates, report, value_of_pairs
from bench.gate.gate import ROUNDS
from bench.gate.machine_study import resampled
from bench.stats.duets import RunPair, value_of
from bench.stats.rounds import median_of_differences

BY_NAME = {noise.name: noise for noise in NOISES}


def test_the_simulation_has_the_estimator_of_real_blocks():
    noise = BY_NAME["all: 1%, drift, bursts of 5%"]
    times = noise.times(4, np.random.default_rng(5))
    values = noise.blocks(4, np.random.default_rng(5))
    assert times.shape == (4, ROUNDS, 2, 2)
    for block, value in zip(times, values, strict=True):
        assert value == pytest.approx(median_of_differences([(side[1], side[0]) for side in block]))


def test_drift_alone_cancels_and_a_process_effect_does_not():
    random = np.random.default_rng(0)
    assert np.ptp(NoiseModel("drift", run=0.0, drift=0.1).blocks(50, random)) < 1e-12
    assert np.std(NoiseModel("process", run=0.0, process=0.01).blocks(4000, random)) == pytest.approx(
        0.01 * np.sqrt(2), rel=0.05
    )


@pytest.mark.parametrize("name", list(BY_NAME))
def test_no_noise_raises_false_alarms(name):
    """At most 1% are allowed; of 300, more than 8 would be rarer than one in a hundred at that rate."""
    assert rates(BY_NAME[name].blocks, 0.0, 1, experiments=300)["REGRESSED"] <= 8 / 300


@pytest.mark.parametrize(
    "name", ["quiet", "process effect 1%", "drift, 2% per visit", "bursts, 5% of the runs"]
)
def test_a_slowdown_of_five_percent_is_found(name):
    assert rates(BY_NAME[name].blocks, 0.05, 1, experiments=200)["REGRESSED"] >= 0.9


def test_a_machine_too_noisy_decides_nothing():
    wild = NoiseModel("wild", process=0.3)
    random = np.random.default_rng(0)
    verdicts = [gate(wild.blocks, 0.0, 1, random) for _ in range(100)]
    assert verdicts.count("INCONCLUSIVE") >= 95


def test_resampled_blocks_have_no_mean():
    blocks = resampled([0.4, 0.5, 0.6])
    drawn = blocks(3000, np.random.default_rng(0))
    # Three values around their own mean are nearer to it than to the true one: by the root of 2/3.
    assert set(np.round(drawn, 6)) == {-0.122474, 0.0, 0.122474}
    assert np.mean(drawn) == pytest.approx(0.0, abs=0.01)


def test_the_report_names_its_command(monkeypatch):
    monkeypatch.setattr("bench.gate.false_alarms.EXPERIMENTS", 2)
    monkeypatch.setattr("bench.gate.false_alarms.NOISES", NOISES[:1])
    text = report()
    assert "are printed by `python -m bench.gate.false_alarms`,\n" in text
    assert "| quiet" in text


def test_the_simulation_has_the_estimator_of_real_duets():
    pairs = BY_NAME["bursts, 20% of the runs"].pairs(4, np.random.default_rng(5), rounds=3)
    assert pairs.shape == (4, 3, 2)
    for block, value in zip(pairs, value_of_pairs(pairs), strict=True):
        runs = [RunPair(half == 0, ratio, False) for one in block for half, ratio in enumerate(one)]
        assert value == pytest.approx(value_of(runs))


def test_in_a_duet_a_slower_half_cancels_and_a_process_effect_does_not():
    random = np.random.default_rng(0)
    assert np.ptp(NoiseModel("half", run=0.0).duet_blocks(50, random)) < 1e-12
    assert np.std(NoiseModel("process", run=0.0, process=0.01).duet_blocks(4000, random)) == pytest.approx(
        0.01 * np.sqrt(2), rel=0.05
    )


@pytest.mark.parametrize("name", ["quiet", "bursts, 20% of the runs", "all: 1%, drift, bursts of 5%"])
def test_a_duet_raises_no_false_alarms_and_finds_a_slowdown(name):
    blocks = BY_NAME[name].duet_blocks
    assert rates(blocks, 0.0, 1, experiments=300)["REGRESSED"] <= 8 / 300
    assert rates(blocks, 0.05, 1, experiments=200)["REGRESSED"] >= (0.8 if "20%" in name else 0.9)
