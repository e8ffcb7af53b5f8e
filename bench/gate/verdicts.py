"""Verdicts of a gate, from its records alone: per case, and over all cases."""

import math
from collections.abc import Iterable, Sequence

import msgspec

from bench.records.environment import Pairing
from bench.records.run import Lost, Sample
from bench.records.solo import Exact, Solo
from bench.stats.intervals import (
    GATE_CONFIDENCE,
    Verdict,
    holm,
    lower_bound,
    p_value_above,
    upper_bound,
    verdict,
)
from bench.stats.ratios import block_values
from bench.suites.case import Case

REVISIONS = ("base", "head", "control")
COSTS = ("flops", "tensor_bytes", "parameters")
"""Exact figures whose growth is a regression; a change of the others is only shown."""


UNTOUCHED = "none of its modules changed"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of slowdowns, as fractions."""

    margin: float
    """Above this with 99% confidence: REGRESSED."""
    tolerance: float
    """Below this with 99% confidence: PASSED."""


class CostChange(msgspec.Struct, frozen=True):
    """An exact figure that has changed."""

    figure: str
    base: int
    head: int

    @property
    def growth(self) -> float:
        return self.head / self.base - 1 if self.base else math.inf

    def __str__(self) -> str:
        return f"{self.figure} {self.base:,} → {self.head:,} ({self.growth:+.2%})"


class CaseVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One case of the suite: slowdown is head's time over base's, with one-sided 99% bounds."""

    model: str
    length: int
    verdict: Verdict
    reason: str
    slowdown: float | None = None
    slowdown_low: float | None = None
    slowdown_high: float | None = None
    p_value: float | None = None
    """P-value of the hypothesis that the slowdown is at most the margin; input of Holm's correction."""
    blocks: int = 0
    changes: list[CostChange] = []
    counted: bool = False
    """Whether the exact costs of both sides are known."""
    without_clock: bool = False
    """Whether the verdict needs no clock, so that noise can't have made it."""
    limits: Limits | None = None
    """Limits of this model alone; None for those of the report."""
    ignored: str | None = None
    """Why the suite lets this model regress; None if it counts."""


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict and everything that it rests on."""

    verdict: Verdict
    reason: str
    base: str
    head: str
    limits: Limits
    control: CaseVerdict | None
    cases: list[CaseVerdict]
    suite: str = "ci"
    """As the user named it."""
    pairing: Pairing | None = None
    """None if nothing was timed."""
    timed: str = ""
    """The pairing in words, and the reason for it."""
    caveats: list[str] = []
    """Disturbed runs, other work on the machine, and blocks that are lacking."""


class Pair(msgspec.Struct, frozen=True):
    """The same case of two revisions: of the base, and of another."""

    base: Solo
    other: Solo

    def against(self, revision: str) -> "Pair":
        """The same base, and the other's case of another revision."""
        case = msgspec.structs.replace(self.other.case, revision=revision)
        return Pair(self.base, msgspec.structs.replace(self.other, case=case))

    def slowdowns(self, samples: Iterable[Sample]) -> list[float]:
        """Logs of the other's time over the base's, by block."""
        return block_values(samples, self.other.case.id, self.base.case.id)


def judge(pair: Pair, samples: Iterable[Sample], lost: Iterable[Lost], limits: Limits) -> CaseVerdict:
    """Judge one case: by whether it runs, then by costs that need no clock, then by its slowdown."""
    fault = _fault(pair, lost)
    changes = cost_changes(pair.base.exact, pair.other.exact)
    grown = [change for change in changes if change.figure in COSTS and change.growth > limits.margin]
    timed = judge_slowdowns(pair.slowdowns(samples), limits)
    if fault is not None:
        timed = msgspec.structs.replace(timed, verdict=fault[0], reason=fault[1], without_clock=True)
    elif grown:
        reason = "; ".join(f"{change.figure} {change.growth:+.2%}" for change in grown)
        timed = msgspec.structs.replace(timed, verdict="REGRESSED", reason=reason, without_clock=True)
    case = pair.base.case
    return msgspec.structs.replace(
        timed,
        model=case.implementation,
        length=case.length,
        changes=changes,
        counted=pair.base.exact is not None and pair.other.exact is not None,
    )


def judge_exactly(pair: Pair, limits: Limits) -> CaseVerdict:
    """Judge a case that was not timed: unchanged costs pass, unknown ones are undecided."""
    judged = judge(pair, [], [], limits)
    if judged.without_clock:
        return judged
    unknown = [solo.reason or "no exact costs" for solo in (pair.base, pair.other) if solo.exact is None]
    if unknown:
        return msgspec.structs.replace(judged, verdict="INCONCLUSIVE", reason=unknown[0], without_clock=True)
    return msgspec.structs.replace(judged, verdict="PASSED", reason="exact costs only", without_clock=True)


def judge_gone(case: Case, reason: str) -> CaseVerdict:
    """Verdict of a case that head no longer has."""
    return CaseVerdict(
        model=case.implementation,
        length=case.length,
        verdict="REGRESSED",
        reason=f"head no longer has it: {reason}",
        without_clock=True,
    )


def judge_new(head: Solo) -> CaseVerdict:
    """Verdict of a case that base does not have: it must run."""
    runs = head.status == "ok"
    return CaseVerdict(
        model=head.case.implementation,
        length=head.case.length,
        verdict="PASSED" if runs else "REGRESSED",
        reason="new, nothing to compare" if runs else f"new, and does not run ({head.status}: {head.reason})",
        without_clock=True,
    )


def judge_untouched(case: Case) -> CaseVerdict:
    """Verdict of a case whose modules are the same in both revisions."""
    return CaseVerdict(
        model=case.implementation,
        length=case.length,
        verdict="PASSED",
        reason=UNTOUCHED,
        without_clock=True,
    )


def conclude(
    cases: Sequence[CaseVerdict], control: CaseVerdict | None, limits: Limits, base: str, head: str
) -> GateReport:
    """Verdict over all cases. By noise alone, one is REGRESSED in at most 1% of all gates (Holm).

    control: identical code against itself, None if nothing was timed. Cases that the suite ignores are shown
    and decide nothing. A slowdown that noise may have made, by the control or by Holm, leaves its case
    INCONCLUSIVE.
    """
    cases = _corrected(cases, control)
    overall, reason = _overall([case for case in cases if case.ignored is None], control)
    return GateReport(
        verdict=overall,
        reason=reason,
        base=base,
        head=head,
        limits=limits,
        control=control,
        cases=cases,
    )


def _corrected(cases: Sequence[CaseVerdict], control: CaseVerdict | None) -> list[CaseVerdict]:
    """All cases; those whose slowdown may be noise, as one of many or by the control, are undecided."""
    if control is not None and control.verdict != "PASSED":
        return [_undecided(case, "the control did not pass") for case in cases]
    places = [i for i, case in enumerate(cases) if not case.without_clock and case.ignored is None]
    p_values = [cases[i].p_value for i in places]
    rejected = holm([1.0 if p_value is None else p_value for p_value in p_values])
    unsure = {i for i, sure in zip(places, rejected, strict=True) if not sure}
    reason = f"not sure enough for one of {len(places)} cases"
    return [_undecided(case, reason) if i in unsure else case for i, case in enumerate(cases)]


def _undecided(case: CaseVerdict, reason: str) -> CaseVerdict:
    """The case, INCONCLUSIVE for that reason if it has regressed by the clock."""
    if case.without_clock or case.verdict != "REGRESSED":
        return case
    return msgspec.structs.replace(case, verdict="INCONCLUSIVE", reason=f"{case.reason}, but {reason}")


def _overall(cases: Sequence[CaseVerdict], control: CaseVerdict | None) -> tuple[Verdict, str]:
    """Verdict of corrected cases that count, and its reason."""
    exact = [case for case in cases if case.without_clock and case.verdict == "REGRESSED"]
    if exact:
        return "REGRESSED", f"without a clock: {_names(exact)}"
    if control is not None and control.verdict != "PASSED":
        return "INCONCLUSIVE", f"the unchanged control did not pass: {control.reason}"
    slower = [case for case in cases if case.verdict == "REGRESSED"]
    if slower:
        return "REGRESSED", f"slower: {_names(slower)}"
    open_cases = [case for case in cases if case.verdict != "PASSED"]
    if open_cases:
        return "INCONCLUSIVE", f"undecided: {_names(open_cases)}"
    if all(case.reason == UNTOUCHED for case in cases):
        return "PASSED", "no model changed" if cases else "nothing counts: every model is ignored"
    return "PASSED", f"{len(cases)} {'case' if len(cases) == 1 else 'cases'}"


def is_settled(case: CaseVerdict, family: int) -> bool:
    """Whether more blocks could not change what a case adds to the verdict over `family` cases."""
    if case.without_clock or case.ignored is not None or case.verdict == "PASSED":
        return True
    return case.p_value is not None and case.p_value <= (1 - GATE_CONFIDENCE) / family


def judge_slowdowns(slowdowns: Sequence[float], limits: Limits) -> CaseVerdict:
    """Bounds, p-value and verdict from blocks' log ratios alone, of a case without a name yet."""
    if not slowdowns:
        return CaseVerdict(model="", length=0, verdict="INCONCLUSIVE", reason="was not timed")
    margin, tolerance = math.log1p(limits.margin), math.log1p(limits.tolerance)
    low, high = lower_bound(slowdowns), upper_bound(slowdowns)
    bounded = math.isfinite(high)
    found = verdict(slowdowns, margin, tolerance)
    return CaseVerdict(
        model="",
        length=0,
        verdict=found,
        reason=_reason(found, low, high) if bounded else "too few blocks for bounds",
        slowdown=math.exp(sum(slowdowns) / len(slowdowns)),
        slowdown_low=math.exp(low) if bounded else None,
        slowdown_high=math.exp(high) if bounded else None,
        p_value=p_value_above(slowdowns, margin),
        blocks=len(slowdowns),
    )


def _reason(found: Verdict, low: float, high: float) -> str:
    if found == "REGRESSED":
        return f"at least {math.expm1(low):.1%} slower"
    if found == "PASSED":
        return f"at most {max(0.0, math.expm1(high)):.1%} slower"
    return f"between {math.expm1(low):+.1%} and {math.expm1(high):+.1%}"


def _fault(pair: Pair, lost: Iterable[Lost]) -> tuple[Verdict, str] | None:
    """Verdict and reason if a revision does not run: head alone has regressed, base can't be compared."""
    reasons = {record.case_id: record.reason for record in lost}
    for solo in (pair.base, pair.other):
        if solo.status != "ok":
            reasons[solo.case.id] = f"{solo.status}: {solo.reason}"
    if pair.base.case.id in reasons:
        return "INCONCLUSIVE", f"does not run on base ({reasons[pair.base.case.id]})"
    if pair.other.case.id in reasons:
        return "REGRESSED", f"does not run any more ({reasons[pair.other.case.id]})"
    return None


def cost_changes(base: Exact | None, head: Exact | None) -> list[CostChange]:
    """Exact figures that differ; none if either side was not counted."""
    if base is None or head is None:
        return []
    figures = [(name, getattr(base, name), getattr(head, name)) for name in Exact.__struct_fields__]
    return [CostChange(*figure) for figure in figures if figure[1] != figure[2]]


def _names(cases: Sequence[CaseVerdict]) -> str:
    return ", ".join(f"{case.model} at {case.length} ({case.reason})" for case in cases)
