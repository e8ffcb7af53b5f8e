"""Which samples make a ratio: rounds of one group, or by way of the case that every group holds."""

import math

import msgspec
import pytest

from bench.records.run import Sample
from bench.stats.ratios import block_step_seconds, block_values, speed_ratio


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


def disturbed(sample: Sample, factor: float) -> Sample:
    return msgspec.structs.replace(sample, seconds=factor * sample.seconds, disturbed_by="waited")


def again(sample: Sample) -> Sample:
    return msgspec.structs.replace(sample, attempt=1)


def test_a_disturbed_run_is_left_out_and_its_repetition_counts():
    first, *rest = visits(0, 0, base=1.0, a=0.5)
    samples = [disturbed(first, 8.0), again(first), *rest]
    assert block_values(samples, "base", "a") == pytest.approx([math.log(2)])
    assert block_step_seconds(samples, "base") == [1.0]
    # The same runs without the mark all count, and so does a run that merely took long.
    slow = msgspec.structs.replace(first, seconds=8.0)
    assert block_values([slow, *rest], "base", "a") == pytest.approx([math.log(16) / 2 + math.log(2) / 2])


def test_a_place_without_an_undisturbed_run_leaves_the_rest_of_its_round():
    first, *rest = [*visits(0, 0, base=1.0, a=0.5), *visits_of_round(1, base=1.0, a=0.5)]
    assert block_values([disturbed(first, 8.0), *rest], "base", "a") == pytest.approx([math.log(2)])


def visits_of_round(number: int, **seconds: float) -> list[Sample]:
    return [msgspec.structs.replace(sample, round=number) for sample in visits(0, 0, **seconds)]


def test_with_fewer_than_three_undisturbed_runs_all_of_a_block_count():
    """Else the only undisturbed run would be the block's value, and it may be a burst of the model's own."""
    burst, *rest = [*visits(0, 0, base=1.0, a=0.5), *visits_of_round(1, base=1.0, a=0.5)]
    burst = msgspec.structs.replace(burst, seconds=8.0)
    others = [disturbed(sample, 1.0) if sample.case_id == "base" else sample for sample in rest]
    assert block_values([burst, *others], "base", "a") == pytest.approx([math.log(2)])


def test_a_block_of_disturbed_runs_alone_counts_with_all_of_them():
    samples = [disturbed(sample, 2.0) for sample in visits(0, 0, base=1.0, a=0.5)]
    assert block_values(samples, "base", "a") == pytest.approx([math.log(2)])
    assert block_step_seconds(samples, "a") == [1.0]
    one_side = [sample if sample.case_id == "a" else disturbed(sample, 1.0) for sample in samples]
    assert block_values(one_side, "base", "a") == pytest.approx([math.log(2)])


def test_rounds_with_more_visits_of_cheap_cases_count_when_they_mirror_themselves():
    order = ["a", "base", "a", "a", "base", "a"]
    seconds = {"base": 1.0, "a": 0.5}
    samples = [
        Sample(case_id=name, block=0, group=0, round=0, visit=position // 3, position=position, steps=1,
               seconds=seconds[name])
        for position, name in enumerate(order)
    ]  # fmt: skip
    assert block_values(samples, "base", "a") == pytest.approx([math.log(2)])
    assert block_values(samples[:-1], "base", "a") == [], "cut off before its end"


def test_files_of_the_first_estimator_keep_it():
    samples = [*visits(0, 0, base=1.0, a=0.5)]
    samples[0] = msgspec.structs.replace(samples[0], seconds=8.0)
    assert block_values(samples, "base", "a", estimator="rounds") == [math.log(9.0) - math.log(1.0)]
