"""Reports of a gate: for the terminal, for a pull request, and as a file for a CI service."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import msgspec

from bench.errors import UsageError
from bench.gate.verdicts import CaseVerdict, GateReport, Limits
from bench.stats.intervals import Verdict
from bench.text.escape import escape_markdown, escape_xml, one_line
from bench.text.text_table import text_table

MARKER = "<!-- seqboat-bench gate -->"
"""First line of a comment, by which the earlier one is found and updated."""

SHORT = 12
"""Characters of a commit's hash that are shown."""

UNCHANGED = "exact costs (FLOPs, peak tensor bytes, operators, parameters): unchanged"

Align = Literal["left", "right"]
HEADERS = ["Model", "Length", "Verdict", "Slowdown", "99% bounds", "Blocks", "Reason"]
ALIGN: list[Align] = ["left", "right", "left", "right", "right", "right", "left"]


def as_text(report: GateReport) -> str:
    """Table of a gate, its exact changes and its verdict."""
    rows = [[*_cells(name, case), case.reason] for name, case in _rows(report)]
    table = text_table(rows, HEADERS, ALIGN)
    changes = [f"{case.model} at {case.length}: {change}" for case in report.cases for change in case.changes]
    lines = [table, "", *(changes or [UNCHANGED]), *_ignored(report), *_timed(report), _sides(report)]
    return "\n".join([*lines, f"{report.verdict}: {report.reason}"])


def as_markdown(report: GateReport) -> str:
    """Markdown for a comment or a job summary: verdict, one row per case, what to do."""
    rows = [
        [*_cells(_plain(name), case), _plain(_what_changed(case)), _plain(case.reason)]
        for name, case in _rows(report)
    ]
    headers = [*HEADERS[:-1], "Exact costs", "Reason"]
    table = text_table(rows, headers, [*ALIGN, "left"], "pipe")
    return "\n".join(
        [
            f"### {_SIGN[report.verdict]} {report.verdict}: {_plain(report.reason)}",
            "",
            *([table, ""] if rows else []),
            f"**What to do:** {what_to_do(report)}",
            "",
            *(f"- {_plain(line)}" for line in [*_ignored(report), *_timed(report), _sides(report)]),
        ]
    )


def as_comment(report: GateReport) -> str:
    """The markdown, with the marker by which the next one replaces it."""
    return f"{MARKER}\n{as_markdown(report)}\n"


def as_json(report: GateReport) -> str:
    return msgspec.json.format(msgspec.json.encode(report)).decode()


def as_junit(report: GateReport) -> str:
    """JUnit XML with one test per case: a regression is a failure, what is undecided is skipped.

    If the overall verdict is not REGRESSED (the control did not pass, or one of many cases is not sure
    enough), no test fails.
    """
    # A head that can't be installed has no case, and fails all the same.
    whole = CaseVerdict(model="every model", length=0, verdict=report.verdict, reason=report.reason)
    tests = [(case, _counts_as(case, report.verdict)) for case in report.cases or [whole]]
    verdicts = [verdict for _, verdict in tests]
    counts = {
        "tests": len(tests),
        "failures": verdicts.count("REGRESSED"),
        "errors": 0,
        "skipped": verdicts.count("INCONCLUSIVE"),
        "time": 0,
    }
    attributes = {name: str(count) for name, count in counts.items()}
    root = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(root, "testsuite", attributes | {"name": "bench regress"})
    for case, verdict in tests:
        name = escape_xml(f"{case.model} at {case.length}")
        test = ElementTree.SubElement(suite, "testcase", classname="bench.regress", name=name, time="0")
        reason = escape_xml(
            case.reason if case.ignored is None else f"ignored: {case.ignored}; {case.reason}"
        )
        if verdict == "REGRESSED":
            ElementTree.SubElement(test, "failure", message=reason, type=verdict)
        elif verdict == "INCONCLUSIVE":
            ElementTree.SubElement(test, "skipped", message=reason)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


FORMATS: Mapping[str, Callable[[GateReport], str]] = {
    "terminal": as_text,
    "markdown": as_markdown,
    "json": as_json,
    "junit": as_junit,
}


def what_to_do(report: GateReport) -> str:
    """Advice, in one sentence."""
    if report.verdict == "PASSED":
        return "nothing."
    if report.verdict == "INCONCLUSIVE":
        return (
            "measure again on a quieter machine, or with more `--blocks`, a longer `--budget` or a wider "
            "`--tolerance` (`bench doctor --aa` says which)."
        )
    guilty = next((case for case in report.cases if case.verdict == "REGRESSED" and not case.ignored), None)
    if guilty is None or (guilty.without_clock and not guilty.changes):
        return "make it run again, or drop the model from `--impl`."
    if guilty.without_clock:
        return (
            "undo what made the costs grow, or raise the model's limits in the suite if the growth is meant; "
            f"`bench profile --impl {guilty.model}` shows where they arise."
        )
    return (
        f"`bench profile --impl {guilty.model}` shows where the time goes; if the cost is meant, raise the "
        "model's limits in the suite."
    )


def summary_file() -> Path:
    """File of the job's summary. Raises UsageError outside of GitHub Actions."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        raise UsageError("--summary: GITHUB_STEP_SUMMARY is not set; GitHub Actions sets it")
    return Path(path)


def append_summary(report: GateReport) -> None:
    """Add the markdown to the job's summary. Raises UsageError."""
    path = summary_file()
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(as_markdown(report) + "\n")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None


def write_comment(report: GateReport, path: Path) -> None:
    """Write the comment to a file. Raises UsageError."""
    try:
        path.write_text(as_comment(report), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None


_SIGN: Mapping[Verdict, str] = {"PASSED": "✅", "REGRESSED": "❌", "INCONCLUSIVE": "❔"}


def _rows(report: GateReport) -> Iterator[tuple[str, CaseVerdict]]:
    for case in report.cases:
        yield case.model, case
    if report.control is not None:
        yield "control: base against itself", report.control


def _cells(name: str, case: CaseVerdict) -> list[str]:
    verdict = case.verdict if case.ignored is None else f"{case.verdict} (ignored)"
    return [name, str(case.length), verdict, _percent(case.slowdown), _bounds(case), str(case.blocks)]


def _counts_as(case: CaseVerdict, overall: Verdict) -> Verdict:
    undecided = case.ignored is not None or overall != "REGRESSED"
    return "INCONCLUSIVE" if case.verdict == "REGRESSED" and undecided else case.verdict


def _plain(text: str) -> str:
    """Text from a model or a user, escaped so that it is not markup."""
    return escape_markdown(one_line(text))


def _what_changed(case: CaseVerdict) -> str:
    return "; ".join(map(str, case.changes)) or "–"


def _percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio - 1:+.1%}"


def _bounds(case: CaseVerdict) -> str:
    if case.slowdown_low is None or case.slowdown_high is None:
        return "–"
    return f"{_percent(case.slowdown_low)} to {_percent(case.slowdown_high)}"


def _ignored(report: GateReport) -> list[str]:
    cases = [case for case in report.cases if case.ignored is not None]
    return [f"{case.model} at {case.length} is ignored: {case.ignored}" for case in cases]


def _timed(report: GateReport) -> list[str]:
    """A line on how pairs were timed; nothing if they were not."""
    return [report.timed] if report.timed else []


def _sides(report: GateReport) -> str:
    own: Sequence[tuple[str, Limits]] = [(case.model, case.limits) for case in report.cases if case.limits]
    limits = [_limits(report.limits), *(f"{model}: {_limits(given)}" for model, given in dict(own).items())]
    return f"base {short(report.base)}, head {short(report.head)}; {'; '.join(limits)}"


def _limits(limits: Limits) -> str:
    return f"margin {limits.margin:.1%}, tolerance {limits.tolerance:.1%}"


def short(commit: str) -> str:
    """A commit's hash as it is shown, and whether there are uncommitted changes."""
    commit, dirty, _ = commit.partition("-dirty")
    return commit[:SHORT] + (" and what is uncommitted" if dirty else "")
