"""Reports of a gate: for the terminal, for a pull request, and as a file for a CI service."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from bench.errors import UsageError
from bench.gate.verdicts import CaseVerdict, GateReport, Limits
from bench.stats.intervals import Verdict
from bench.text.escape import escape_markdown, escape_xml, one_line
from bench.text.units import format_percent
from bench.views.tables.choice import Choice, chosen_rows
from bench.views.tables.formats import render
from bench.views.tables.grid import MISSING, Cell, Head
from bench.views.tables.plain import Plain
from bench.views.tables.titles import title_of

MARKER = "<!-- seqboat-bench gate -->"
"""First line of a comment, by which the earlier one is found and updated."""

SHORT = 12
"""Characters of a commit's hash that are shown."""

UNCHANGED = "exact costs (FLOPs, peak tensor bytes, operators, parameters): unchanged"

HEADS = (
    Head("Model", "left", label=True, fields=("model",)),
    Head("Length", label=True, fields=("length",)),
    Head("Verdict", "left", fields=("verdict",)),
    Head("Slowdown", fields=("slowdown",)),
    Head("99% bounds", fields=("slowdown_low", "slowdown_high")),
    Head("Blocks", drop=1, fields=("blocks",)),
    Head("Exact costs", "left", words=True, fields=("changes",), on_demand=True),
    Head("Reason", "left", words=True, fields=("reason",)),
)


class GateTable(Plain[CaseVerdict]):
    """Cases and, for people, the control."""

    def objects(self, rows: Sequence[CaseVerdict]) -> list[CaseVerdict]:
        return [row for row in rows if row is not self.whole.control]


def as_table(report: GateReport, wanted: Sequence[str] | None = None) -> GateTable:
    """A row per case, or of some models; exact changes and the verdict below. Raises UsageError."""
    cases = report.cases if report.control is None else [*report.cases, report.control]
    changes = [f"{case.model} at {case.length}: {change}" for case in report.cases for change in case.changes]
    counted = any(case.counted for case in report.cases)
    below = [*(changes or [UNCHANGED] * counted), *_ignored(report), *_timed(report), _sides(report)]
    return GateTable(
        heads=HEADS,
        rows=chosen_rows(cases, wanted, lambda case: [case.model, title_of(case.model)]),
        cells=lambda case, digits: _cells(case, digits, is_control=case is report.control),
        whole=report,
        field="cases",
        lines_below=[*below, f"{report.verdict}: {report.reason}"],
    )


def as_markdown(report: GateReport, choice: Choice | None = None, wanted: Sequence[str] | None = None) -> str:
    """Markdown for a comment or a job summary: verdict, one row per case, what to do."""
    choice = choice or Choice()
    columns = choice.columns or [head.one_line for head in HEADS]
    table = render(as_table(report, wanted), "markdown", replace(choice, columns=columns, notes=False))
    lines = [*_ignored(report), *_timed(report), _sides(report)] if choice.notes else []
    return "\n".join(
        [
            f"### {_SIGN[report.verdict]} {report.verdict}: {_plain(report.reason)}",
            "",
            *([table, ""] if report.cases else []),
            f"**What to do:** {what_to_do(report)}",
            "",
            *(f"- {_plain(line)}" for line in lines),
        ]
    )


def as_comment(report: GateReport) -> str:
    """The markdown, with the marker by which the next one replaces it."""
    return f"{MARKER}\n{as_markdown(report)}\n"


def as_junit(report: GateReport) -> str:
    """JUnit XML with one test per case: regressions are failures, what is ignored or undecided is skipped."""
    # A head that can't be installed has no case, and fails all the same.
    whole = CaseVerdict(model="every model", length=0, verdict=report.verdict, reason=report.reason)
    tests = [(case, _counts_as(case)) for case in report.cases or [whole]]
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


def what_to_do(report: GateReport) -> str:
    """Advice, in one sentence."""
    if report.verdict == "PASSED":
        return "nothing."
    if report.verdict == "INCONCLUSIVE":
        still_open = [case for case in report.cases if case.verdict == "INCONCLUSIVE" and not case.ignored]
        if still_open and all(case.without_clock for case in still_open):
            return "name a base that runs with `--base`, or time what can't be counted: without `--exact`."
        return (
            "measure again on a quieter machine, or with more `--blocks`, a longer `--budget` or a wider "
            "`--tolerance` (`bench doctor --aa` says which)."
        )
    guilty = next((case for case in report.cases if case.verdict == "REGRESSED" and not case.ignored), None)
    if guilty is None or (guilty.without_clock and not guilty.changes):
        return "make it run again, or drop the model from `--impl`."
    profile = shlex.join(
        ["bench", "profile", "--impl", guilty.model, "--suite", report.suite, "--length", str(guilty.length)]
    )
    if guilty.without_clock:
        return (
            "undo what made the costs grow, or raise the model's limits in the suite if the growth is meant; "
            f"`{profile}` shows where they arise."
        )
    return (
        f"`{profile}` shows where the time goes; if the cost is meant, raise the model's limits in the suite."
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


def _cells(case: CaseVerdict, digits: int | None, *, is_control: bool) -> list[Cell]:
    verdict = case.verdict if case.ignored is None else f"{case.verdict} (ignored)"
    return [
        Cell("control: base against itself" if is_control else case.model, name=case.model),
        Cell(str(case.length), value=case.length),
        Cell(verdict),
        Cell(_percent(case.slowdown, digits), value=case.slowdown),
        Cell(_bounds(case, digits), value=case.slowdown_low),
        Cell(str(case.blocks), value=case.blocks),
        Cell("; ".join(map(str, case.changes)) or MISSING),
        Cell(case.reason),
    ]


def _counts_as(case: CaseVerdict) -> Verdict:
    return "INCONCLUSIVE" if case.verdict == "REGRESSED" and case.ignored is not None else case.verdict


def _plain(text: str) -> str:
    """Text from a model or a user, escaped so that it is not markup."""
    return escape_markdown(one_line(text))


def _percent(ratio: float | None, digits: int | None = None) -> str:
    if ratio is None:
        return MISSING
    if digits is None:
        return f"{ratio - 1:+.1%}"
    return f"{'+' if ratio >= 1 else ''}{format_percent(ratio - 1, digits)}"


def _bounds(case: CaseVerdict, digits: int | None) -> str:
    if case.slowdown_low is None or case.slowdown_high is None:
        return MISSING
    return f"{_percent(case.slowdown_low, digits)} to {_percent(case.slowdown_high, digits)}"


def _ignored(report: GateReport) -> list[str]:
    cases = [case for case in report.cases if case.ignored is not None]
    return [f"{case.model} at {case.length} is ignored: {case.ignored}" for case in cases]


def _timed(report: GateReport) -> list[str]:
    """The way in which pairs were timed, and what stood in the way; nothing if they were not."""
    return [report.timed, *report.caveats] if report.timed else []


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
