"""What a gate says, in every format: verdict, bounds, exact costs, and what to do."""

import json
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from bench.errors import UsageError
from bench.gate.reports import (
    MARKER,
    as_comment,
    as_junit,
    as_markdown,
    as_table,
    short,
    what_to_do,
    write_comment,
)
from bench.gate.verdicts import CaseVerdict, CostChange, Limits, conclude
from bench.views.tables.choice import Choice
from bench.views.tables.formats import render

from .test_verdicts import FAST, LIMITS, OPEN, SLOW, verdict_of

xmlschema = pytest.importorskip("xmlschema")
SCHEMA = Path(__file__).parents[1] / "views" / "schemas" / "junit.xsd"
GROWN = CaseVerdict(
    model="mine.conv:build",
    length=256,
    verdict="REGRESSED",
    reason="flops +12.00%",
    changes=[CostChange("flops", 100, 112), CostChange("operators", 10, 9)],
    without_clock=True,
)


def report(*cases, control=FAST):
    return conclude(list(cases), verdict_of(*control), LIMITS, "a" * 40, "b" * 40 + "-dirty")


def test_the_markdown_says_all_of_it():
    own = Limits(margin=0.1, tolerance=0.2)
    lenient = msgspec.structs.replace(verdict_of(*FAST), model="odd|name", limits=own)
    ignored = msgspec.structs.replace(verdict_of(*SLOW), ignored="goes away")
    text = as_markdown(report(verdict_of(*SLOW), GROWN, lenient, ignored))
    lines = text.splitlines()
    assert lines[0].startswith("### ❌ REGRESSED: without a clock: mine.conv:build at 256")
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 5
    assert "REGRESSED" in rows[2]
    assert "+5.0%" in rows[2]
    assert "+4.6% to +5.4%" in rows[2]
    assert "flops 100 → 112 (+12.00%); operators 10 → 9 (-10.00%)" in rows[3]
    assert r"odd\|name" in rows[4]
    assert "REGRESSED (ignored)" in rows[5]
    assert "control: base against itself" in rows[6]
    assert "**What to do:** `bench profile --impl transformer --suite ci --length 256`" in text
    assert "is ignored: goes away" in text
    assert "base aaaaaaaaaaaa, head bbbbbbbbbbbb and what is uncommitted; margin 1.0%" in text
    assert "name: margin 10.0%, tolerance 20.0%" in text


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ([verdict_of(*FAST)], "nothing."),
        ([verdict_of(*OPEN)], "measure again on a quieter machine"),
        (
            [verdict_of(*SLOW)],
            "`bench profile --impl transformer --suite ci --length 256` shows where the time goes",
        ),
        ([GROWN], "undo what made the costs grow"),
        ([msgspec.structs.replace(GROWN, changes=[])], "make it run again"),
    ],
)
def test_what_to_do_is_one_sentence(cases, words):
    assert words in what_to_do(report(*cases))


def test_latex_has_the_arrow_of_a_changed_cost():
    assert r"flops 100 $\rightarrow$ 112" in render(as_table(report(GROWN)), "latex")


def test_a_comment_is_found_by_its_first_line(tmp_path):
    found = report(verdict_of(*FAST))
    write_comment(found, tmp_path / "comment.md")
    assert (tmp_path / "comment.md").read_text(encoding="utf-8") == as_comment(found)
    assert as_comment(found).splitlines()[0] == MARKER
    with pytest.raises(UsageError, match="cannot be written"):
        write_comment(found, tmp_path / "nowhere" / "comment.md")


def test_junit_is_valid_and_fails_only_what_the_gate_fails():
    ignored = msgspec.structs.replace(GROWN, model="old", ignored="goes away")
    cases = [verdict_of(*FAST), verdict_of(*SLOW), GROWN, ignored, verdict_of(*OPEN)]
    text = as_junit(report(*cases))
    xmlschema.validate(text, SCHEMA)
    children = [[child.tag for child in test] for test in ElementTree.fromstring(text).iter("testcase")]
    assert children == [[], ["failure"], ["failure"], ["skipped"], ["skipped"]]
    nothing = msgspec.structs.replace(report(GROWN), cases=[], reason="head can't be installed")
    assert '<failure message="head can\'t be installed"' in as_junit(nothing)
    undecided = ElementTree.fromstring(as_junit(report(verdict_of(*SLOW), control=OPEN)))
    assert [child.tag for test in undecided.iter("testcase") for child in test] == ["skipped"]
    by_costs = ElementTree.fromstring(as_junit(report(verdict_of(*SLOW), GROWN, control=OPEN)))
    tags = [child.tag for test in by_costs.iter("testcase") for child in test]
    assert tags == ["skipped", "failure"], "the clock of a control that did not pass fails nothing"


def test_json_and_the_terminals_text_hold_the_same_verdict():
    found = report(GROWN)
    assert json.loads(render(as_table(found), "json"))["verdict"] == "REGRESSED"
    assert render(as_table(found), "terminal").splitlines()[-1].startswith("REGRESSED: without a clock")


def test_commits_are_short():
    assert short("c" * 40) == "c" * 12
    assert short("c" * 40 + "-dirty") == "c" * 12 + " and what is uncommitted"


def test_its_table_has_the_options_of_all_tables():
    found = report(verdict_of(*SLOW), GROWN)
    shown = Choice(columns=["verdict", "exact costs"], rename={"mine.conv:build": "Ours"})
    lines = render(as_table(found, [GROWN.model]), "csv", shown).splitlines()
    assert lines[0] == "model,length,verdict,changes", "what tells cases apart stays"
    assert len(lines) == 2
    assert lines[1].startswith(f"Ours,{GROWN.length},REGRESSED")
    markdown = as_markdown(found, shown)
    assert "| Model | Length | Verdict | Exact costs |" in markdown
    assert f"| Ours | {GROWN.length} | REGRESSED |" in markdown
    control = json.loads(render(as_table(found), "json"))
    assert len(control["cases"]) == 2
    assert control["control"]["verdict"] == "PASSED"
