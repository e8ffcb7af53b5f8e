"""Repetition where the variance is: designs from planted variances and costs; variances found again."""

import math

import msgspec
import numpy as np
import pytest

from bench.records.run import Sample
from bench.stats.allocation import Design, Problem, Task
from bench.stats.variances import Spread, spreads


def problem(tasks: dict[str, Task], **changes) -> Problem:
    settings = {"baseline": "base", "done": [Design(2), Design(2)], "block_seconds": 10.0, "most_rounds": 8,
                "least_blocks": 3, "most_blocks": 12} | changes  # fmt: skip
    return Problem(tasks=tasks, **settings)


def task(processes=0.01, visits=0.01, steps=0.0, seconds=1.0, least=1, overhead=0.0) -> Task:
    return Task(Spread(processes**2, visits**2, steps**2), seconds, least, overhead)


def test_noise_between_processes_asks_for_blocks_and_noise_between_visits_for_rounds():
    def chosen(start=10.0, **noise):
        tasks = {"base": task(**noise), "a": task(**noise)}
        return problem(tasks, block_seconds=start, most_blocks=40).choose(300)

    blocks, rounds = chosen(processes=0.1, visits=0.001), chosen(processes=0.001, visits=0.2)
    assert blocks.blocks > rounds.blocks
    assert blocks.design.rounds < rounds.design.rounds
    cheap, dear = chosen(processes=0.1, visits=0.2), chosen(60.0, processes=0.1, visits=0.2)
    assert dear.blocks < cheap.blocks, "where a start costs more than visits"
    assert dear.design.visits_of("a") > cheap.design.visits_of("a")


def test_a_cheap_model_gets_more_visits_than_a_dear_one():
    tasks = {"base": task(visits=0.05, seconds=5.0), "cheap": task(visits=0.05, seconds=0.2)}
    design = problem(tasks).choose(250).design
    assert design.visits_of("cheap") > design.visits_of("base") >= 4


def test_the_time_goes_to_the_widest_interval():
    tasks = {"base": task(), "calm": task(visits=0.01), "wild": task(visits=0.3)}
    design = problem(tasks).choose(120).design
    assert design.visits_of("wild") > design.visits_of("calm")


def test_a_choice_fits_the_time_and_is_better_than_any_other_number_of_rounds():
    tasks = {"base": task(visits=0.05), "a": task(visits=0.1, seconds=0.5), "b": task(0.03, 0.02)}
    found = problem(tasks)
    choice = found.choose(200)
    more = choice.blocks - 2
    assert more * found.seconds(choice.design) <= 200
    for rounds in range(2, 9):
        for count in range(1, 11):
            plain = Design(rounds)
            if count * found.seconds(plain) <= 200:
                assert choice.half_width <= found.half_width(plain, count) + 1e-12


def test_three_visits_at_least_where_there_is_time_and_two_where_there_is_not():
    tasks = {"base": task(processes=0.2, visits=0.001), "a": task(processes=0.2, visits=0.001)}
    assert problem(tasks).choose(40).design.rounds == 2, "though one round would make room for more blocks"
    assert problem(tasks).choose(13).design.rounds == 1
    assert problem(tasks).choose(1).design == Design(1, {}, {"base": 1, "a": 1}), "a run has no less"
    assert problem(tasks, most_rounds=1).choose(300).design.rounds == 1


def test_the_blocks_that_a_suite_needs_are_planned_for():
    tasks = {"base": task(), "a": task()}
    choice = problem(tasks, least_blocks=6).choose(70)
    assert choice.blocks >= 6
    assert choice.half_width == problem(tasks).half_width(choice.design, choice.blocks - 2)


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        (task(steps=0.1, visits=0.1, overhead=0.0, least=3), 3),
        (task(steps=0.2, visits=0.1, overhead=4.0, seconds=1.0, least=1), 4),
        (task(steps=0.2, visits=0.1, overhead=1.0, seconds=1.0, least=1), 2),
        (task(steps=0.1, visits=0.0, overhead=1.0, least=2), 8),
        (task(steps=0.0, visits=0.1, overhead=1.0, least=2), 2),
    ],
)
def test_a_visit_is_the_longer_the_more_it_costs_to_begin(given, steps):
    """√(overhead / step · variance within / variance between), from least up to four times that."""
    assert given.steps == steps


def test_side_by_side_every_case_has_the_visits_of_the_baseline():
    tasks = {"base": task(visits=0.1, seconds=2.0), "a": task(visits=0.1, seconds=0.1)}
    found = problem(tasks, side_by_side=True, block_seconds=0.0)
    assert found.seconds(Design(3)) == 6 * 2.0
    assert not found.choose(500).design.visits


def drawn(processes: float, visits: float, steps: float, blocks: int, random) -> list[Sample]:
    """Samples of one case with known variances."""
    samples = []
    for block in range(blocks):
        luck = random.normal(0, processes)
        for visit in range(8):
            level = math.exp(luck + random.normal(0, visits))
            each = level * np.exp(random.normal(0, steps, size=16))
            samples.append(
                Sample(
                    case_id="a", block=block, group=0, round=visit // 2, visit=visit % 2, position=0,
                    steps=16, seconds=float(each.sum()), step_deviation=float(each.std(ddof=1)),
                )
            )  # fmt: skip
    return samples


@pytest.mark.parametrize("truth", [(0.05, 0.02, 0.04), (0.0, 0.05, 0.01), (0.03, 0.001, 0.1)])
def test_planted_variances_are_found_again(truth):
    found = spreads(drawn(*truth, 200, np.random.default_rng(0)))["a"]
    deviations = [part**0.5 for part in (found.processes, found.visits, found.steps)]
    assert deviations == pytest.approx(truth, rel=0.25, abs=0.01)


def test_a_burst_is_no_variance_between_visits():
    samples = drawn(0.01, 0.01, 0.0, 3, np.random.default_rng(0))
    burst = [msgspec.structs.replace(samples[0], seconds=8 * samples[0].seconds), *samples[1:]]
    assert spreads(burst)["a"].visits ** 0.5 < 0.02


@pytest.mark.parametrize("cases", ["ab", "abcd"])
def test_the_machines_speed_in_a_block_is_no_variance_of_a_models_processes(cases):
    """It cancels in every ratio; what is left is each model's own."""
    random = np.random.default_rng(0)
    speeds = np.exp(random.normal(0, 0.2, size=200))
    samples = [
        msgspec.structs.replace(sample, case_id=name, seconds=sample.seconds * speeds[sample.block])
        for name in cases
        for sample in drawn(0.03, 0.01, 0.0, 200, random)
    ]
    for found in spreads(samples).values():
        assert found.processes**0.5 == pytest.approx(0.03, rel=0.25)


def test_one_block_says_nothing():
    assert spreads(drawn(0.01, 0.01, 0.0, 1, np.random.default_rng(0))) == {}


def test_side_by_side_a_block_has_three_rounds_where_there_is_time():
    """A round has one pair on each half of the cores, and a median of two shrugs off no burst."""
    tasks = {"base": task(processes=0.2, visits=0.001), "a": task(processes=0.2, visits=0.001)}
    assert problem(tasks, side_by_side=True).choose(43).design.rounds >= 3, "not three blocks of two"
    assert problem(tasks).choose(40).design.rounds == 2


def test_a_short_share_of_the_time_is_no_reason_for_a_poor_block():
    """Of several cells each has a share of the time that is left; the next block may have all of it."""
    tasks = {"base": task(processes=0.2, visits=0.001), "a": task(processes=0.2, visits=0.001)}
    found = problem(tasks)
    assert found.choose(13, longest=40).design.rounds == 2
    assert found.choose(13, longest=found.shortest - 0.1).design.rounds == 1


def test_the_baseline_costs_its_visits_in_every_group():
    tasks = {"base": task(seconds=5.0), "a": task(seconds=1.0)}
    assert problem(tasks, block_seconds=0.0).seconds(Design(1)) == 2 * (5 + 1)
    assert problem(tasks, block_seconds=0.0, groups=3).seconds(Design(1)) == 2 * (3 * 5 + 1)
    duet = problem(tasks, block_seconds=0.0, groups=3, side_by_side=True)
    assert duet.seconds(Design(1)) == 2 * 5
