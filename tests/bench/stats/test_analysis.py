"""Which samples make a ratio: rounds of one group, or by way of the case that every group holds."""

import math

import pytest

from bench.records.run import Sample
from bench.stats.ratios import block_values, speed_ratio


def visits(block: int, group: int, **seconds: float) -> list[Sample]:
    """One round: every case twice, in palindromic order."""
    order = [*seconds, *reversed(seconds)]
    return [
        Sample(
            case_id=name,
            block=block,
            group=group,
            round=0,
            visit=position // len(seconds),
            position=position,
            steps=1,
            seconds=seconds[name],
        )
        for position, name in enumerate(order)
    ]


TWO_GROUPS = [*visits(0, 0, base=1.0, a=0.5), *visits(0, 1, base=3.0, b=1.0)]


def test_cases_of_two_groups_are_compared_by_way_of_the_one_in_both():
    assert block_values(TWO_GROUPS, "a", "b") == []
    assert speed_ratio(TWO_GROUPS, "a", "b") is None
    # The second group ran on a machine three times as slow: against base, a takes a half and b a third.
    assert block_values(TWO_GROUPS, "a", "b", "base") == pytest.approx([math.log(1.5)])
    assert block_values(TWO_GROUPS, "b", "a", "base") == pytest.approx([-math.log(1.5)])
    assert block_values(TWO_GROUPS, "base", "b", "base") == pytest.approx([math.log(3.0)])


def test_one_group_needs_no_way_round():
    samples = [
        *visits(0, 0, base=1.0, a=0.5, b=0.1),
        *visits(1, 0, base=1.0, a=0.5),
        *visits(1, 1, base=1.0, b=0.2),
    ]
    assert block_values(samples, "a", "b", "base") == pytest.approx([math.log(5.0), math.log(2.5)])
    assert block_values(samples, "a", "b") == pytest.approx([math.log(5.0)])


def test_half_a_way_leads_nowhere():
    lacking = [*visits(0, 0, base=1.0, a=0.5), *visits(1, 1, base=3.0, b=1.0)]
    assert block_values(lacking, "a", "b", "base") == []
    unfinished = [*visits(0, 0, base=1.0, a=0.5), *visits(0, 1, base=3.0, b=1.0)[:-1]]
    assert block_values(unfinished, "a", "b", "base") == []
