"""`bench bisect`: which commit made a model slower or bigger?"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import msgspec

from bench.errors import UsageError
from bench.gate.regress import compared_suite
from bench.gate.reports import short
from bench.gate.revisions import Code
from bench.gate.rules import MARGIN
from bench.gate.search import Found, Search, half_way
from bench.gate.verdicts import CostChange, cost_changes
from bench.gate.workbench import Figure, Workbench, alone_in, kept_pairing
from bench.measure.pairing import check_pairing, pair
from bench.measure.procedure import Procedure
from bench.probes.environment import probe_environment
from bench.records.environment import Environment
from bench.suites.case import Case
from bench.suites.suite import Suite
from bench.system.repository import Repository
from bench.text.units import parse_percentage


@dataclass(frozen=True)
class BisectRequest:
    """A user's request to bisect."""

    good: str
    bad: str
    folder: Path
    """Folder of raw data and of what was found so far."""
    figure: str = "step"
    code: Code = field(default_factory=Code)
    suite: str = "ci"
    length: int | None = None
    """One of the suite's lengths; by default its first."""
    margin: str = MARGIN
    """The bad end must be worse by more than this."""
    budget: str = "15m"
    """Time for one commit."""
    device: str = "auto"
    threads: int | None = None
    pairing: str = "auto"
    """auto (what the folder's findings have, if there are any), duet or turns; of the figure step."""
    overrides: dict[str, Any] = field(default_factory=dict)
    repository: Path = Path(".")


class Bisection(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, and what it rests on."""

    figure: Figure
    model: str
    length: int
    good: str
    bad: str
    first_bad: Found | None
    """None if the ends can't be told apart."""
    subject: str = ""
    """First line of its message."""
    changes: list[CostChange] = []
    """Its exact costs against those of the last good commit."""
    suspects: list[str] = []
    """Skipped commits just before it: it may have been one of them."""
    found: list[Found] = []
    """Every commit that was looked at, in this order."""


def bisect(request: BisectRequest, observer: Callable[[str], None]) -> Bisection:
    """Find the first bad commit. Raises UsageError if an end does not run.

    observer: called with a line per finding. The same request, made again, continues from what its folder
    holds.
    """
    figure, margin = _figure(request.figure), _margin(request.margin)
    check_pairing(request.pairing)
    repository = Repository.around(request.repository)
    good, bad = repository.commit(request.good), repository.commit(request.bad)
    commits = repository.commits_between(good, bad)
    suite = compared_suite(request.suite, request.overrides, request.budget)
    threads = request.threads or suite.most_threads
    environment = probe_environment(request.device, threads)
    if figure == "step":
        paired = pair(environment, _pairing(request), threads)
        environment = paired.environment
        observer(paired.words)
    case = _case(suite, environment, request.length)
    with alone_in(request.folder):
        bench = Workbench(
            request.folder, repository, request.code, suite, environment, case, figure, margin, good
        )
        search = search_for(commits, bench.look, margin, lambda found: observer(_line(found, repository)))
    looked_at = list(search.found.values())
    end = looked_at[0]
    if end.standing == "skipped" and end.ratio is None:
        raise UsageError(f"the bad end, {short(end.commit)}: {end.reason}; name another with --bad")
    answer = Bisection(
        figure=figure,
        model=case.implementation,
        length=case.length,
        good=good,
        bad=bad,
        first_bad=None,
        found=looked_at,
    )
    if end.standing != "bad":
        return answer
    first = search.found[search.first_bad]
    before = search.found[search.last_good].exact if search.last_good else bench.good_exact
    return msgspec.structs.replace(
        answer,
        first_bad=first,
        subject=_subject(repository, first.commit),
        changes=cost_changes(before, first.exact),
        suspects=search.suspects,
    )


def search_for(
    commits: list[str], look: Callable[[str, float], Found], margin: float, observer: Callable[[Found], None]
) -> Search:
    """Verify the bad end, then halve the commits between the ends until none is open.

    look: takes a commit and the ratio to the good end above which it is bad. The first look compares the two
    ends, which verifies both; if the bad one is not bad, the search ends there.
    """
    search = Search(commits)

    def take(commit: str, threshold: float) -> Found:
        found = look(commit, threshold)
        search.found[commit] = found
        observer(found)
        return found

    end = take(commits[-1], 1 + margin)
    if end.standing == "bad" and end.ratio is not None:
        while (commit := search.next()) is not None:
            take(commit, half_way(end.ratio))
    return search


def folder_name(good: str, bad: str, figure: str, what: str) -> str:
    """Default folder of a search, the same for the same words."""
    return "-".join(["bisect", *(re.sub(r"[^\w.@~^]+", "_", word) for word in (what, figure, good, bad))])


def as_text(answer: Bisection) -> str:
    """The answer for people: first bad commit, its ratio, and what else is known of it."""
    what = {"step": "slower", "memory": "bigger", "flops": "costlier"}[answer.figure]
    of = f"{answer.model} at {answer.length}"
    measured = sum(found.standing != "skipped" for found in answer.found)
    commits = "commit" if measured == 1 else "commits"
    skipped = [f"skipped {short(f.commit)}: {f.reason}" for f in answer.found if f.standing == "skipped"]
    tail = [
        *skipped,
        f"measured {measured} {commits} between good {short(answer.good)} and bad {short(answer.bad)}",
    ]
    if answer.first_bad is None:
        end = answer.found[0]
        said = end.reason or f"bad over good: {_ratio(end)}"
        return "\n".join([*tail, f"good and bad cannot be told apart: {of}: {said}"])
    lines = [f"first {what} commit: {answer.first_bad.commit} {answer.subject}".rstrip()]
    lines.append(f"{of}: {answer.figure} over good's: {_ratio(answer.first_bad)}")
    lines += [f"against the commit before: {change}" for change in answer.changes]
    if answer.suspects:
        lines.append(f"or one before it that was skipped: {', '.join(map(short, answer.suspects))}")
    return "\n".join([*tail, *lines])


def _ratio(found: Found) -> str:
    if found.ratio is None:
        return "unknown"
    interval = f" ({found.low:.3f} to {found.high:.3f})" if found.low and found.high else ""
    blocks = f", {found.blocks} blocks" if found.blocks else ""
    return f"× {found.ratio:.3f}{interval}{blocks}"


def _line(found: Found, repository: Repository) -> str:
    said = found.reason if found.standing == "skipped" else _ratio(found)
    return f"{short(found.commit)} {found.standing}: {said}  {_subject(repository, found.commit)}".rstrip()


def _subject(repository: Repository, commit: str) -> str:
    info = Repository.commits(repository.root, [commit]).get(commit)
    return info.subject if info else ""


def _case(suite: Suite, environment: Environment, length: int | None) -> Case:
    procedure = Procedure(suite, environment)
    wanted = length or suite.lengths[0]
    case = next((case for case in suite.cases(procedure.kind) if case.length == wanted), None)
    if case is None:
        raise UsageError(f"--length {wanted}: {suite.name} has {', '.join(map(str, suite.lengths))}")
    return case


def _figure(name: str) -> Figure:
    known: tuple[Figure, ...] = get_args(Figure)
    for figure in known:
        if figure == name:
            return figure
    raise UsageError(f"--figure {name}: choose {', '.join(known)}")


def _pairing(request: BisectRequest) -> str:
    """The pairing that is asked for; findings of a folder are not continued by another."""
    kept = kept_pairing(request.folder) if request.pairing == "auto" else None
    return kept or request.pairing


def _margin(text: str) -> float:
    try:
        return parse_percentage(text)
    except ValueError as error:
        raise UsageError(f"--margin: {error}") from None
