"""Limits of a gate: an option in place of the suite's default, and never against one that nobody gave."""

import pytest

from bench.errors import UsageError
from bench.gate.rules import limits_of, rules_of
from bench.gate.verdicts import Limits
from bench.suites.suite import Allowed


@pytest.mark.parametrize(
    ("margin", "tolerance", "limits"),
    [
        (None, None, Limits(margin=0.01, tolerance=0.03)),
        ("5%", None, Limits(margin=0.05, tolerance=0.05)),
        (None, "0.5%", Limits(margin=0.005, tolerance=0.005)),
        ("2%", "4%", Limits(margin=0.02, tolerance=0.04)),
    ],
)
def test_one_option_contradicts_no_default(margin, tolerance, limits):
    assert limits_of(margin, tolerance) == limits


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("5%", "3%"), "--tolerance 3% lies below --margin 5%"),
        (("x", None), "--margin: 'x' is not a percentage"),
        ((None, "x"), "--tolerance: 'x' is not a percentage"),
        (("", None), "--margin: '' is not a percentage"),
        ((None, ""), "--tolerance: '' is not a percentage"),
    ],
)
def test_what_is_wrong_by_itself_is_refused(given, words):
    with pytest.raises(UsageError, match=words):
        limits_of(*given)
    with pytest.raises(UsageError, match=words):
        rules_of({}, {}, *given)


def test_an_option_takes_the_place_of_the_suites_default():
    suites = {"default": Allowed(margin="2%", tolerance="10%")}
    assert rules_of(suites, {}, "5%", None).default == Limits(margin=0.05, tolerance=0.1)
    with pytest.raises(UsageError, match="--tolerance 1% lies below the margin 2%"):
        rules_of(suites, {}, None, "1%")
    with pytest.raises(UsageError, match="the tolerance 10% lies below --margin 20%"):
        rules_of(suites, {}, "20%", None)
    slow = {"slow:build": Allowed(tolerance="1%")}
    with pytest.raises(UsageError, match="`limits`: slow:build: tolerance 1% lies below"):
        rules_of(suites | slow, {}, None, None)
