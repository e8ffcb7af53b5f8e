"""`bench run --predict` and `--max-length`: what a step would need, and the longest sequence that fits.

Each figure comes from a fresh worker. Nothing is timed and nothing is kept: the table is all.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from bench import workloads
from bench.errors import UsageError
from bench.measure.compilation import compile_kernels
from bench.measure.header import make_header
from bench.measure.procedure import Procedure
from bench.measure.request import Request, load_suite
from bench.probes.environment import probe_environment
from bench.records.reading import Results
from bench.records.run import MEMORY_KIND, MemoryFigure, Solo
from bench.suites.case import Case
from bench.text.units import format_bytes, parse_bytes
from bench.workers.forkserver import ForkServer
from bench.workers.handle import WorkerFailed
from bench.workers.messages import MeasureMemory, MemoryMeasured, Predict, Predicted, Prepared, Warm, Warmed

GRAIN = 128
"""Longest sequences are multiples of this many time steps, which suits what goes in chunks."""
PRECISION = 64
"""The longest sequence is told within its length over this."""


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a step needs. No bytes: too_large, or else the reason why nobody can tell."""

    bytes: int | None = None
    parameters: int | None = None
    too_large: bool = False
    reason: str | None = None
    traceback: str | None = None
    """Of Python, where the model failed."""


Probe = Callable[[Case], Needs]


@dataclass(frozen=True)
class MemoryNeeds:
    """What every case needs, or the longest sequence that it can have."""

    results: Results
    """As of a run that timed nothing."""
    lengths: dict[str, int]
    """By case, the time steps at which its figure was found."""
    notes: list[str]

    @property
    def complete(self) -> bool:
        """Whether every case has its figure."""
        return all(solo.status == "ok" for solo in self.results.solos.values())


def memory_needs(request: Request, *, predicted: bool, max_length: str | None) -> MemoryNeeds:
    """Peak memory of every case, or with max_length (a memory budget, as `8GiB`) each model's longest length.

    predicted: from shapes alone; else measured, which only max_length asks for. Raises UsageError.
    """
    if request.executor != "local":
        raise UsageError(
            f"--executor {request.executor}: --predict and --max-length are for this machine alone"
        )
    budget = None if max_length is None else _budget(max_length)
    suite = load_suite(request)
    environment = probe_environment(request.device, request.threads)
    plan = Procedure(suite, environment)
    solos: dict[str, Solo] = {}
    lengths: dict[str, int] = {}
    cases = suite.cases(plan.kind)
    if budget is not None:
        if suite.tokens is not None:
            raise UsageError("--max-length: takes a number of sequences (--batch), not of tokens")
        cases = [case for case in cases if case.length == suite.lengths[0]]
    with ForkServer(plan.threads, plan.sources) as server:
        probe = (predicting if predicted else _measuring)(plan, server)
        for case in cases:
            found, lengths[case.id] = (
                (probe(case), case.length) if budget is None else longest(case, budget, probe)
            )
            solos[case.id] = _solo(case, found, MEMORY_KIND[plan.kind])
            _tell(case, found, lengths[case.id])
    header = make_header(suite, environment)
    results = Results(path="", header=header, solos=solos, samples=[], lost={}, end=None)
    return MemoryNeeds(results, lengths, list(_notes(predicted, budget, cases)))


def longest(case: Case, budget: int, probe: Probe) -> tuple[Needs, int]:
    """The longest sequence of a case whose step stays within a budget of bytes, and what it needs there.

    Doubles until it does not fit, then bisects; longer is taken to need more. Without a length that fits,
    the needs say why, and the length is the one that was tried.
    """
    most = workloads.load(case.workload).max_length
    low, high, needs = 0, most + 1, Needs()
    length = min(GRAIN, most)
    while low < length < high:
        found = probe(msgspec.structs.replace(case, length=length))
        if found.bytes is None and not found.too_large:
            return found, length
        if found.bytes is not None and found.bytes <= budget:
            low, needs = length, found
        else:
            high = length
        length = _next(low, high, most)
    if low:
        return needs, low
    return Needs(reason=f"even {length or GRAIN} time steps need more than {format_bytes(budget)}"), GRAIN


def _next(low: int, high: int, most: int) -> int:
    """The next length to try; `low` if it is known well enough."""
    if high > most:
        return most if low < most <= 2 * low else 2 * low
    if high - low <= max(GRAIN, low // PRECISION):
        return low
    return (low + high) // 2 // GRAIN * GRAIN


def predicting(plan: Procedure, server: ForkServer) -> Probe:
    """The needs of cases by shapes alone; each is asked of a fresh worker."""

    def probe(case: Case) -> Needs:
        try:
            with server.start(case) as worker:
                question = Predict(case, plan.environment.device)
                found = worker.ask(question, Predicted, plan.deadline_seconds).prediction
        except WorkerFailed as failure:
            return Needs(reason=f"not predictable: {failure.reason}", traceback=failure.traceback)
        reason = None if found.reason is None else f"not predictable: {found.reason}"
        return Needs(bytes=found.tensor_bytes, parameters=found.parameters, reason=reason)

    return probe


def _measuring(plan: Procedure, server: ForkServer) -> Probe:
    """The figure of the table's memory column after one step of warming up."""

    def probe(case: Case) -> Needs:
        try:
            with server.start(case) as worker:
                prepared = worker.ask(plan.prepare(case), Prepared, plan.deadline_seconds)
                compile_kernels(worker, plan)
                worker.ask(Warm(1, 1, 1.0), Warmed, plan.deadline_seconds)
                memory = worker.ask(MeasureMemory(), MemoryMeasured, plan.deadline_seconds)
        except WorkerFailed as failure:
            reason = f"{failure.status} at length {case.length}: {failure.reason}"
            return Needs(too_large=failure.status == "oom", reason=reason, traceback=failure.traceback)
        figure = next(figure for figure in memory.figures if figure.kind == MEMORY_KIND[plan.kind])
        return Needs(bytes=figure.bytes, parameters=prepared.parameters, reason=figure.unavailable)

    return probe


def _budget(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"--max-length: {error}") from None


def _solo(case: Case, needs: Needs, kind: str) -> Solo:
    if needs.bytes is None:
        return Solo(case=case, status="unsupported", reason=needs.reason, traceback=needs.traceback)
    figure = MemoryFigure(kind=kind, bytes=needs.bytes)
    return Solo(case=case, status="ok", parameters=needs.parameters, memory=[figure])


def _tell(case: Case, needs: Needs, length: int) -> None:
    what = needs.reason if needs.bytes is None else format_bytes(needs.bytes)
    print(f"{case.implementation} at {length}: {what}", file=sys.stderr, flush=True)


def _notes(predicted: bool, budget: int | None, cases: list[Case]) -> Iterator[str]:
    if budget is not None:
        yield (
            f"Length: the longest that trains within {format_bytes(budget)}, a multiple of {GRAIN}, within "
            f"1/{PRECISION} of itself"
        )
    if predicted:
        yield "Memory: predicted from shapes alone (peak of live tensor bytes in a step); nothing was run"
    else:
        yield "Memory: measured, one step at each length that was tried"
    if any(case.activation is not None for case in cases):
        yield "Activation: the rate that was given, taken to be that of every row and layer"
