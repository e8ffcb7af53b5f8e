"""`bench regress`: two revisions of a repository side by side, every case interleaved with its older self."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.errors import UsageError
from bench.gate.caveats import of_lacking_blocks, of_raw_data
from bench.gate.gate import ROUNDS, Gate
from bench.gate.imports import touched
from bench.gate.installed import SetupFailed
from bench.gate.revisions import Code, Revision, checked_out
from bench.gate.rules import Rules, limits_of, rules_of
from bench.gate.verdicts import REVISIONS, CaseVerdict, GateReport, Limits, conclude, judge_untouched
from bench.measure.display import open_display
from bench.measure.header import make_header
from bench.measure.pairing import Paired, check_pairing, pair
from bench.measure.procedure import Procedure
from bench.probes.environment import probe_environment
from bench.probes.surroundings import read_surroundings
from bench.records.reading import read
from bench.records.surroundings import remarks
from bench.records.writing import ResultFile
from bench.stats.intervals import MIN_BLOCKS
from bench.suites import reading
from bench.suites.files import ENDINGS
from bench.suites.suite import Suite
from bench.system.repository import WORKTREE, Repository
from bench.system.signals import Interruption, termination_interrupts
from bench.text.units import parse_duration
from implementations.by_configuration import file_of


@dataclass(frozen=True)
class GateRequest:
    """A user's request for a gate."""

    base: str
    out: Path
    head: str = WORKTREE
    code: Code = field(default_factory=Code)
    suite: str = "ci"
    margin: str | None = None
    """Margin; None for the suite's, or 1%."""
    tolerance: str | None = None
    """Tolerance; None for the suite's, or 3%."""
    blocks: int = 5
    budget: str = "15m"
    device: str = "auto"
    threads: int | None = None
    pairing: str = "auto"
    """auto, duet or turns."""
    exact: bool = False
    """Judge only by costs that need no clock."""
    from_diff: bool = False
    """Measure only models whose modules differ between the revisions."""
    overrides: dict[str, Any] = field(default_factory=dict)
    repository: Path = Path(".")


class Measured(NamedTuple):
    """Verdicts of a gate, and the way to them."""

    cases: list[CaseVerdict]
    control: CaseVerdict | None
    paired: Paired | None = None
    """Timing of pairs; None if no clock was needed."""
    caveats: Sequence[str] = ()
    """Blocks that are lacking."""


def regress(request: GateRequest) -> GateReport:
    """Measure both revisions and decide. Raises UsageError if nothing could be measured."""
    limits = _check(request)
    base, head, _ = REVISIONS
    repository = Repository.around(request.repository)
    commits = {base: repository.commit(request.base), head: repository.commit(request.head)}
    try:
        with (
            # Before the first worktree is made, so that none is left behind whatever ends this.
            termination_interrupts() as interruption,
            checked_out(repository, commits, request.code) as revisions,
        ):
            suite = suite_of(request, revisions[head])
            rules = rules_of(suite.limits, suite.ignored, request.margin, request.tolerance)
            cases, control, paired, caveats = _measured(request, suite, rules, revisions, interruption)
    except SetupFailed as failure:
        if failure.revision != head:
            raise
        return GateReport(
            verdict="REGRESSED",
            reason=str(failure),
            base=commits[base],
            head=commits[head],
            limits=limits,
            control=None,
            cases=[],
            suite=request.suite,
        )
    if cases and all(case.verdict == "INCONCLUSIVE" and case.blocks == 0 for case in cases):
        # A gate that measured nothing has failed, not passed.
        raise UsageError(f"nothing could be compared: {cases[0].model} {cases[0].reason}")
    report = conclude(cases, control, rules.default, commits[base], commits[head])
    report = msgspec.structs.replace(report, suite=request.suite)
    if paired is None:
        return report
    return msgspec.structs.replace(
        report,
        pairing=paired.environment.pairing,
        timed=paired.words,
        caveats=[*caveats, *of_raw_data(read(request.out))],
    )


def _check(request: GateRequest) -> Limits:
    """Limits by the options alone. Raises UsageError for invalid ones, before anything is checked out."""
    try:
        parse_duration(request.budget)
    except ValueError as error:
        raise UsageError(f"--budget: {error}") from None
    check_pairing(request.pairing)
    if request.blocks < MIN_BLOCKS:
        raise UsageError(f"--blocks {request.blocks}: bounds need at least {MIN_BLOCKS} blocks")
    return limits_of(request.margin, request.tolerance)


def _measured(
    request: GateRequest,
    suite: Suite,
    rules: Rules,
    revisions: Mapping[str, Revision],
    interruption: Interruption,
) -> Measured:
    """Verdicts on all cases, and how they were timed."""
    base, head, control = REVISIONS
    untouched = _untouched(request, suite, revisions[base], revisions[head])
    if untouched.issuperset(suite.implementations):
        return Measured([rules.applied(judge_untouched(case)) for case in suite.cases("cpu")], None)
    threads = request.threads or suite.most_threads
    environment = probe_environment(request.device, threads)
    paired = None if request.exact else pair(environment, request.pairing, threads)
    environment = environment if paired is None else paired.environment
    sources = {name: revision.source for name, revision in revisions.items()} | {
        control: revisions[base].source
    }
    surroundings = read_surroundings()
    with (
        ResultFile(request.out, interruption.deferred) as file,
        open_display() as display,
    ):
        if paired is not None:
            display.notice(paired.words)
        for remark in remarks(surroundings):
            display.notice(remark.line)
        commits = {name: of.commit for name, of in revisions.items()}
        file.append(make_header(suite, environment, commits, surroundings=surroundings))
        procedure = Procedure(suite, environment, sources=sources)
        with Gate(procedure, file, display, rules, 0 if request.exact else request.blocks) as gate:
            gate.decided = {
                case: judge_untouched(case) for case in gate.cases if case.implementation in untouched
            }
            sides = (revisions[base], revisions[head])
            if paired is None:
                return Measured(*gate.exactly(*sides))
            verdicts = gate.run(*sides)
            caveats = of_lacking_blocks(verdicts[0], request.blocks, gate.without_room)
            return Measured(*verdicts, paired, caveats)


def _untouched(request: GateRequest, suite: Suite, base: Revision, head: Revision) -> set[str]:
    """Implementations that need not be measured; none unless only changed ones are asked for."""
    if not request.from_diff:
        return set()
    return {name for name in suite.implementations if not touched(name, base, head)}


def suite_of(request: GateRequest, head: Revision) -> Suite:
    """The suite; if it is a file of the repository, as it is in head. Raises UsageError."""
    file = _as_of(request.suite, head)
    try:
        return compared_suite(file, request.overrides, request.budget)
    except UsageError as error:
        # The user knows her own file, not its place in a temporary worktree.
        raise UsageError(str(error).replace(file, request.suite)) from None


def _as_of(suite: str, revision: Revision) -> str:
    """A suite's name or file; for a file inside the working tree the revision's, if it has one."""
    if not suite.endswith(ENDINGS):
        return suite
    try:
        theirs = revision.tree / Path(suite).resolve().relative_to(revision.repository)
    except ValueError:
        return suite
    return str(theirs) if theirs.is_file() else suite


def compared_suite(name: str, overrides: dict[str, Any], budget: str) -> Suite:
    """A gate's suite for two revisions, each of which has its own models. Raises UsageError."""
    suite = gate_suite(name, overrides, budget)
    where = "--impl" if "implementations" in overrides else f"{name}: `implementations`:"
    for model in suite.implementations:
        if file_of(model) is not None:
            raise UsageError(
                f"{where} {model}: both revisions would read this one file; name a function that reads it"
            )
    return suite


def gate_suite(name: str, overrides: dict[str, Any], budget: str) -> Suite:
    """A suite with a gate's rounds and budget. Raises UsageError."""
    suite = reading.load(name, overrides, budget=budget)
    for axis in {*suite.choices("cpu"), *suite.choices("cuda")}:
        raise UsageError(f"{name}: a gate compares revisions at one {axis}, and this suite has several")
    timing = msgspec.structs.replace(suite.timing, max_rounds=ROUNDS)
    return msgspec.structs.replace(suite, timing=timing)
