"""Comparison of commits with one good commit, one at a time; what was found is kept in a folder."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import msgspec

from bench.errors import UsageError
from bench.gate.gate import Gate
from bench.gate.installed import SetupFailed
from bench.gate.revisions import Code, Revision, checked_out
from bench.gate.rules import rules_of
from bench.gate.search import Found, judged_by_cost, judged_by_time
from bench.gate.verdicts import REVISIONS, Pair
from bench.measure.display import open_display
from bench.measure.header import make_header
from bench.measure.procedure import Procedure
from bench.records.environment import Environment, Machine, Pairing
from bench.records.solo import Exact
from bench.records.writing import ResultFile
from bench.suites.case import Case
from bench.suites.suite import Suite
from bench.system.locks import locked
from bench.system.repository import Repository
from bench.system.signals import Interruption, termination_interrupts

Figure = Literal["step", "memory", "flops"]
FOUND = "found.json"
BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of a file that is not what it should be."""
COSTS = {"memory": "tensor_bytes", "flops": "flops"}
"""Figures that need no clock, and their names among the exact ones."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Contents of a folder's file."""

    question: list[str]
    found: list[Found]


@dataclass
class Workbench:
    """Measures one case of commits against the good end's. Raw data and findings are kept in `folder`."""

    folder: Path
    repository: Repository
    code: Code
    suite: Suite
    environment: Environment
    case: Case
    figure: Figure
    margin: float
    """Share by which a commit has to be worse to be bad."""
    good: str
    found: dict[str, Found] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take over what an earlier call found. Raises UsageError if the folder is another question's."""
        if not self._file.exists():
            return
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=Kept)
        except (OSError, *BROKEN) as error:
            raise UsageError(f"{self._file}: cannot be read ({error})") from None
        if kept.question != self._question:
            raise UsageError(f"{self.folder}: holds another bisection; name another folder with --out")
        self.found = {found.commit: found for found in kept.found}

    def look(self, commit: str, threshold: float) -> Found:
        """Judge a commit: bad above the threshold, a ratio. Raises UsageError if the good end can't run.

        What an earlier call judged by another threshold, that of another bad end, or could not tell for want
        of time, which this one may have, is measured anew.
        """
        kept = self.found.get(commit)
        if kept is None or not kept.answers(threshold):
            found = self._measured(commit, threshold)
            self._keep(msgspec.structs.replace(found, threshold=threshold))
        return self.found[commit]

    def _measured(self, commit: str, threshold: float) -> Found:
        base, head, _ = REVISIONS
        try:
            with (
                termination_interrupts() as interruption,
                checked_out(self.repository, {base: self.good, head: commit}, self.code) as revisions,
            ):
                return self._side_by_side(revisions[base], revisions[head], threshold, interruption)
        except SetupFailed as failure:
            if failure.revision == base:
                raise
            return Found(commit=commit, standing="skipped", reason=str(failure))

    def _side_by_side(
        self, base: Revision, head: Revision, threshold: float, interruption: Interruption
    ) -> Found:
        sources = {base.name: base.source, head.name: head.source}
        raw = self.folder / f"{head.commit}.jsonl"
        raw.unlink(missing_ok=True)  # Left by an attempt that was interrupted.
        with (
            ResultFile(raw, interruption.deferred) as file,
            open_display() as display,
        ):
            commits = {side.name: side.commit for side in (base, head)}
            file.append(make_header(self.suite, self.environment, commits))
            procedure = Procedure(self.suite, self.environment, sources=sources)
            with Gate(procedure, file, display, rules_of({}, {}, None, None), blocks=0) as gate:
                gate.cases = [self.case]
                gone = gate.locate(base, head)
                if (base.name, self.case.implementation) in gone:
                    reason = gone[base.name, self.case.implementation]
                    raise UsageError(f"the good end does not have it: {reason}")
                if gone:
                    return _skipped(head.commit, *gone.values())
                (pair,) = gate.pairs(base, head, exact=self.figure in COSTS)
                found = self._judged(gate, pair, head.commit, threshold)
                gate.end("blocks")
                return found

    def _judged(self, gate: Gate, pair: Pair, commit: str, threshold: float) -> Found:
        if pair.base.status != "ok":
            raise UsageError(f"the good end does not run: {pair.base.status}: {pair.base.reason}")
        if pair.other.status != "ok":
            return _skipped(commit, f"does not run ({pair.other.status}: {pair.other.reason})")
        self.found[self.good] = Found(commit=self.good, standing="good", exact=pair.base.exact)
        if self.figure in COSTS:
            return _judged_by_cost(pair, commit, self.figure, threshold)

        def more_blocks(count: int) -> Sequence[float]:
            gate.time([pair], count)
            return pair.slowdowns(gate.found.samples)

        found = judged_by_time(commit, pair.other.exact, more_blocks, threshold)
        lost = gate.found.lost.get(pair.other.case.id)
        return _skipped(commit, f"does not run ({lost.reason})") if lost else found

    @property
    def good_exact(self) -> Exact | None:
        found = self.found.get(self.good)
        return found.exact if found else None

    @property
    def _file(self) -> Path:
        return self.folder / FOUND

    @property
    def _question(self) -> list[str]:
        """Everything that must be the same for findings to belong to one search."""
        machine = map(str, self.environment.machine)
        made = (self.good, self.figure, f"{self.margin:g}", str(self.code), self.case.id, *machine)
        return [str(self.repository.root), *made]

    def _keep(self, found: Found) -> None:
        self.found[found.commit] = found
        part = self._file.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            content = Kept(question=self._question, found=list(self.found.values()))
            part.write_bytes(msgspec.json.encode(content))
            os.replace(part, self._file)
        except OSError as error:
            raise UsageError(f"{self._file}: cannot be written ({error.strerror})") from None


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Within this context no other search works in a folder. Raises UsageError if one does."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, wait=False))
        except BlockingIOError:
            raise UsageError(
                f"{folder}: another search is at work here; let it end, or name another folder with --out"
            ) from None
        except OSError as error:
            raise UsageError(f"{folder}: cannot be written ({error.strerror})") from None
        yield


def kept_pairing(folder: Path) -> str | None:
    """The pairing of a folder's findings; None if it has none."""
    try:
        kept = msgspec.json.decode((folder / FOUND).read_bytes(), type=Kept)
    except (OSError, *BROKEN):
        return None  # Who continues it says what is wrong with it.
    machine = dict(zip(Machine._fields, kept.question[-len(Machine._fields) :], strict=False))
    pairing = machine.get("pairing")
    return pairing if pairing in get_args(Pairing) else None


def _skipped(commit: str, reason: str) -> Found:
    return Found(commit=commit, standing="skipped", reason=reason)


def _judged_by_cost(pair: Pair, commit: str, figure: Figure, threshold: float) -> Found:
    base, other = pair.base.exact, pair.other.exact
    if base is None:
        raise UsageError(f"the good end has no {figure}: {pair.base.reason}")
    if other is None:
        return _skipped(commit, f"has no {figure} ({pair.other.reason})")
    before, after = (getattr(exact, COSTS[figure]) for exact in (base, other))
    if not before:
        raise UsageError(f"the good end has no {COSTS[figure]}: there is no ratio to it")
    return judged_by_cost(commit, other, after / before, threshold)
