"""What a gate decides from its records: per case, over all cases, and what it says."""

import msgspec
import pytest

from bench.gate.reports import as_table, what_to_do
from bench.gate.verdicts import Limits, Pair, conclude, is_settled, judge, judge_exactly, judge_new
from bench.records.run import Lost, Sample
from bench.records.solo import Exact, Solo
from bench.suites import reading as suites
from bench.views.tables.formats import render

LIMITS = Limits(margin=0.01, tolerance=0.03)
CASE = suites.load("ci").cases("cpu")[0]
COSTS = Exact(parameters=100, flops=1000, tensor_bytes=10_000, operators=50)


def solo(revision: str, **changes) -> Solo:
    fields = {"status": "ok", "step_seconds": 1.0, "exact": COSTS} | changes
    return Solo(case=msgspec.structs.replace(CASE, revision=revision), **fields)


def comparison(**head) -> Pair:
    return Pair(solo("base"), solo("head", **head))


def samples(*ratios: float) -> list[Sample]:
    """A block for each ratio of head's time to base's, of one round."""
    return [
        Sample(
            case_id=solo(revision).case.id, block=block, group=0, round=0, visit=visit, position=visit,
            steps=1, seconds=seconds,
        )
        for block, ratio in enumerate(ratios)
        for revision, seconds in (("base", 1.0), ("head", ratio))
        for visit in (0, 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ((1.05, 1.051, 1.049), "REGRESSED"),
        ((1.0, 1.001, 0.999), "PASSED"),
        ((0.8, 0.81, 0.8), "PASSED"),
        ((1.0, 1.2, 0.9), "INCONCLUSIVE"),
        ((1.02, 1.0201, 1.0199), "REGRESSED"),
        ((1.5, 1.5), "INCONCLUSIVE"),
        ((), "INCONCLUSIVE"),
    ],
)
def test_the_verdict_of_a_case(ratios, expected):
    judged = judge(comparison(), samples(*ratios), [], LIMITS)
    assert judged.verdict == expected
    assert judged.blocks == len(ratios)
    assert (judged.slowdown_low is None) == (len(ratios) < 3)
    assert not judged.without_clock


@pytest.mark.parametrize("figure", ["flops", "tensor_bytes", "parameters"])
def test_a_grown_cost_has_regressed_whatever_the_clock_says(figure):
    grown = msgspec.structs.replace(COSTS, **{figure: getattr(COSTS, figure) * 2})
    pair = comparison(exact=grown)
    for judged in (judge(pair, samples(0.9, 0.9, 0.9), [], LIMITS), judge_exactly(pair, LIMITS)):
        assert judged.verdict == "REGRESSED"
        assert judged.without_clock
        assert f"{figure} " in judged.reason
        assert "+100.00%" in judged.reason
        assert conclude([judged], control=None, limits=LIMITS, base="a", head="b").verdict == "REGRESSED"


@pytest.mark.parametrize(
    "costs",
    [
        {"operators": 500},
        {"flops": 1005},
        {"flops": 10, "tensor_bytes": 10, "parameters": 10},
    ],
)
def test_other_changes_pass_and_are_shown(costs):
    judged = judge_exactly(comparison(exact=msgspec.structs.replace(COSTS, **costs)), LIMITS)
    assert judged.verdict == "PASSED"
    text = render(as_table(conclude([judged], None, LIMITS, "a", "b")), "terminal")
    for figure in costs:
        assert f"{figure} {getattr(COSTS, figure):,} → {costs[figure]:,}" in text


def test_unknown_costs_are_undecided_and_not_a_regression():
    """A compiled model has none to count, and runs all the same."""
    unknown = {"exact": None, "reason": "no exact costs: it is compiled"}
    judged = judge_exactly(comparison(**unknown), LIMITS)
    assert (judged.verdict, judged.reason) == ("INCONCLUSIVE", "no exact costs: it is compiled")
    report = conclude([judged], None, LIMITS, "a", "b")
    assert report.verdict == "INCONCLUSIVE"
    assert "without `--exact`" in what_to_do(report)
    assert judge_new(solo("head", **unknown)).verdict == "PASSED"


def test_what_runs_no_more_has_regressed_and_what_never_ran_is_open():
    broken = {"status": "error", "reason": "upside down", "exact": None}
    head = judge(comparison(**broken), [], [], LIMITS)
    assert (head.verdict, head.without_clock) == ("REGRESSED", True)
    assert "does not run any more (error: upside down)" in head.reason
    base = judge(Pair(solo("base", **broken), solo("head")), [], [], LIMITS)
    assert base.verdict == "INCONCLUSIVE"
    assert "does not run on base" in base.reason
    lost = Lost(case_id=solo("head").case.id, block=1, status="crashed", reason="died of SIGSEGV")
    timed = judge(comparison(), samples(1.0, 1.0, 1.0), [lost], LIMITS)
    assert (timed.verdict, timed.without_clock) == ("REGRESSED", True)
    assert "SIGSEGV" in timed.reason


def verdict_of(*ratios: float):
    return judge(comparison(), samples(*ratios), [], LIMITS)


FAST, SLOW, OPEN = (1.0, 1.001, 0.999), (1.05, 1.051, 1.049), (1.0, 1.2, 0.9)


def test_the_control_must_pass():
    slow, fine = verdict_of(*SLOW), verdict_of(*FAST)
    for control in (verdict_of(*OPEN), slow):
        report = conclude([slow, fine], control, LIMITS, "a", "b")
        assert report.verdict == "INCONCLUSIVE"
        assert "control" in report.reason
    assert conclude([slow, fine], fine, LIMITS, "a", "b").verdict == "REGRESSED"
    assert conclude([fine, fine], fine, LIMITS, "a", "b").verdict == "PASSED"
    assert conclude([fine, verdict_of(*OPEN)], fine, LIMITS, "a", "b").verdict == "INCONCLUSIVE"


def test_many_cases_are_corrected_for():
    """One case of p = 0.005 has regressed alone, but not as the only one of ten."""
    fine = verdict_of(*FAST)
    suspect = msgspec.structs.replace(verdict_of(*SLOW), p_value=0.005)
    assert suspect.verdict == "REGRESSED"
    assert conclude([suspect], fine, LIMITS, "a", "b").verdict == "REGRESSED"
    assert conclude([suspect] + 9 * [fine], fine, LIMITS, "a", "b").verdict == "INCONCLUSIVE"
    assert is_settled(suspect, 1)
    assert not is_settled(suspect, 10)
    assert is_settled(fine, 10)
    assert not is_settled(verdict_of(*OPEN), 1)


def test_a_slowdown_that_may_be_noise_leaves_its_case_undecided():
    fine, slow = verdict_of(*FAST), verdict_of(*SLOW)
    suspect = msgspec.structs.replace(slow, p_value=0.008)
    ignored = msgspec.structs.replace(suspect, ignored="x")
    report = conclude([slow, suspect, fine, ignored], fine, LIMITS, "a", "b")
    assert report.verdict == "REGRESSED"
    verdicts = [case.verdict for case in report.cases]
    assert verdicts == ["REGRESSED", "INCONCLUSIVE", "PASSED", "REGRESSED"]
    assert report.cases[1].reason.endswith("% slower, but not sure enough for one of 3 cases")
    grown = judge_exactly(comparison(exact=msgspec.structs.replace(COSTS, flops=2000)), LIMITS)
    report = conclude([slow, grown], verdict_of(*OPEN), LIMITS, "a", "b")
    assert report.verdict == "REGRESSED"
    assert [case.verdict for case in report.cases] == ["INCONCLUSIVE", "REGRESSED"]
    assert report.cases[0].reason.endswith("but the control did not pass")


def test_the_text_has_every_case_and_the_control():
    text = render(
        as_table(conclude([verdict_of(*SLOW)], verdict_of(*FAST), LIMITS, "a" * 40, "b" * 40)), "terminal"
    )
    assert CASE.implementation in text
    assert "control: base against itself" in text
    assert "+5.0%" in text
    assert text.splitlines()[-1].startswith("REGRESSED: slower: transformer")
    assert "aaaaaaaaaaaa, head bbbbbbbbbbbb" in text
