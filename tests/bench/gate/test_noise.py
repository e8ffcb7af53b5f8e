"""Noise from blocks of identical code."""

import msgspec
import numpy as np
import pytest

from bench.errors import UsageError
from bench.gate.noise import Noise, noise_of, recommended
from bench.suites import reading as suites

CASES = suites.load("ci").cases("cpu")


def test_noise_is_recovered_from_made_up_blocks():
    generator = np.random.default_rng(3)
    values = {case: list(generator.normal(0, 0.01, size=400)) for case in CASES}
    noise = noise_of(values)
    assert noise.floor == pytest.approx(0.01, rel=0.1)
    assert noise.blocks == 400
    assert 0 < noise.smallest_tolerance < noise.smallest_difference < 0.003
    assert [case.model for case in noise.cases] == [case.implementation for case in CASES]


def test_a_case_of_too_few_blocks_does_not_count_and_none_is_an_error():
    values = {CASES[0]: [0.0, 0.01, -0.01], CASES[1]: [9.0]}
    assert [case.model for case in noise_of(values).cases] == [CASES[0].implementation]
    with pytest.raises(UsageError, match="no case ran for 3 blocks"):
        noise_of({CASES[1]: [9.0]})


def noise(pairing: str, floor: float, seconds: float, blocks: int = 5) -> Noise:
    generator = np.random.default_rng(3)
    values = {case: list(generator.normal(0, 0.01, size=blocks)) for case in CASES}
    found = noise_of(values)
    return msgspec.structs.replace(found, pairing=pairing, floor=floor, seconds=seconds)


@pytest.mark.parametrize(
    ("duet", "turns", "words"),
    [
        ((0.01, 60.0), (0.02, 120.0), "--pairing duet: as narrow an interval takes 12% of the time"),
        ((0.04, 60.0), (0.02, 120.0), "--pairing turns: as narrow an interval takes 50% of the time, which"),
        ((0.02, 60.0), (0.02, 120.0), "--pairing duet: as narrow an interval takes 50% of the time, which"),
    ],
)
def test_the_pairing_that_tells_more_in_the_same_time_is_recommended(duet, turns, words):
    both = [noise("turns", *turns), noise("duet", *duet)]
    best, said = recommended(both)
    assert said.startswith(words)
    assert ("can't tell from chance" in said) == words.endswith("which")
    assert best.pairing in words
    assert recommended([both[0]])[1] == "--pairing turns: no other is possible here"


def spread(pairing: str, *deviations: float, seconds: float) -> Noise:
    """Noise of cases with these deviations."""
    found = noise(pairing, 0.01, seconds)
    cases = [
        msgspec.structs.replace(case, deviation=deviation)
        for case, deviation in zip(found.cases, deviations, strict=False)
    ]
    return msgspec.structs.replace(found, cases=cases)


def test_degrees_are_fewer_if_one_case_makes_the_noise():
    assert spread("turns", 0.01, 0.01, 0.01, seconds=1).degrees == pytest.approx(3 * 4)
    assert spread("turns", 0.01, 1e-6, 1e-6, seconds=1).degrees == pytest.approx(4)


def test_the_better_of_two_is_told_from_chance_on_both_sides():
    """With 12 degrees each, the larger variance is 2.69 times the other in one of ten, 3.28 times in one of
    twenty cases."""
    alike = (0.01, 0.01, 0.01)
    clear, unclear = (
        recommended([spread("turns", *alike, seconds=100.0), spread("duet", *alike, seconds=seconds)])[1]
        for seconds in (30.0, 33.0)
    )
    assert "can't tell" not in clear
    assert "can't tell" in unclear
