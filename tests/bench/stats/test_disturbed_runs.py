"""Ratios in turns where few runs were quiet: each place counts once, and both sides by one rule."""

import math

import pytest

from bench.records.run import Sample
from bench.stats.ratios import block_step_seconds, block_values


def runs(name: str, seconds: list[float], quiet: int = 0) -> list[Sample]:
    """One run at each place of as many rounds as there are pairs of seconds; the first are quiet."""
    return [
        Sample(
            case_id=name, block=0, group=0, round=place // 2, visit=place % 2,
            position=3 * (place % 2) if name == "a" else 1 + place % 2, steps=1, seconds=each,
            disturbed_by=None if place < quiet else "stopped",
        )
        for place, each in enumerate(seconds)
    ]  # fmt: skip


def again(sample: Sample, attempt: int, **changes) -> Sample:
    fields = {name: getattr(sample, name) for name in Sample.__struct_fields__}
    return Sample(**fields | {"attempt": attempt} | changes)


def test_repeats_of_one_place_do_not_outvote_the_others():
    a, b = runs("a", [8.0, 1.0, 1.0, 1.0]), runs("b", [1.0] * 4)
    repeats = [again(a[0], attempt) for attempt in (1, 2)]
    assert block_values([a[0], *repeats, *a[1:], *b], "a", "b") == [0.0]
    assert block_step_seconds([a[0], *repeats, *a[1:], *b], "a") == [1.0]


def test_a_quiet_attempt_takes_the_place_of_disturbed_ones():
    a, b = runs("a", [8.0, 1.0]), runs("b", [1.0, 1.0])
    calm = again(a[0], 1, seconds=2.0, disturbed_by=None)
    assert block_values([a[0], calm, a[1], *b], "a", "b") == [pytest.approx(math.log(2) / 2)]


def test_if_one_side_has_too_few_quiet_runs_neither_is_judged_by_them_alone():
    """Both take twice as long while something disturbs them, and are equal."""
    a, b = runs("a", [2.0] * 12), runs("b", [1.0] * 3 + [2.0] * 9, quiet=3)
    assert block_values([*a, *b], "a", "b") == [0.0]
    calm = runs("a", [1.0] * 3 + [2.0] * 9, quiet=3)
    assert block_values([*calm, *runs("b", [1.0] * 3 + [9.0] * 9, quiet=3)], "a", "b") == [0.0]
