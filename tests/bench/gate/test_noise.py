"""Noise from blocks of identical code."""

import numpy as np
import pytest

from bench.errors import UsageError
from bench.gate.noise import noise_of
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
