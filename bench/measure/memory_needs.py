"""`bench run --predict`, `--max-length` and `--max-batch`: what a step would need, and the most that fits.

Each figure comes from a fresh worker. Nothing is timed and nothing is kept: the table is all.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from bench import workloads
from bench.errors import UsageError
from bench.measure.compilation import compile_kernels, warm_up_deadline
from bench.measure.header import check_shown, make_header
from bench.measure.procedure import Procedure
from bench.measure.request import Request, load_suite
from bench.probes.environment import probe_environment
from bench.records.environment import DeviceKind
from bench.records.reading import Results
from bench.records.solo import MEMORY_KIND, MemoryFigure, Solo
from bench.suites.case import Case, Phase
from bench.suites.suite import STRETCH, Suite
from bench.text.units import format_bytes, parse_bytes
from bench.workers.forkserver import ForkServer
from bench.workers.handle import WorkerFailed
from bench.workers.messages import MeasureMemory, MemoryMeasured, Predict, Predicted, Prepared, Warm, Warmed

RESOLUTION = 64
"""The largest size is told within itself over this."""


@dataclass(frozen=True)
class Axis:
    """The axis that is made as large as a memory budget allows."""

    option: str
    field: Literal["length", "batch"]
    grain: int
    """Sizes are multiples of this."""
    most: Callable[[Case], int]
    """Largest size of a case."""
    words: str
    """A number of them, in a message."""

    def at(self, case: Case, size: int) -> Case:
        """A case with another size."""
        return msgspec.structs.replace(case, **{self.field: size})


def _longest(case: Case) -> int:
    """Most time steps of a case's data; decoding needs its stretch after them."""
    return workloads.load(case.workload).max_length - (STRETCH if case.phase == "decode" else 0)


LENGTH = Axis("--max-length", "length", 128, _longest, "time steps")
"""Step of a sequence's length: a multiple of 128 suits chunked forms."""
BATCH = Axis("--max-batch", "batch", 1, lambda _: 1 << 20, "sequences")


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """Memory that a step needs. No bytes: too_large, or else the reason why nobody can tell."""

    bytes: int | None = None
    parameters: int | None = None
    width: int | None = None
    too_large: bool = False
    reason: str | None = None
    traceback: str | None = None
    """Python's traceback, if the model failed."""


Probe = Callable[[Case], Needs]


@dataclass(frozen=True)
class MemoryNeeds:
    """Memory needs of every case, or the largest size of each that fits."""

    results: Results
    """As of a run that timed nothing."""
    sized: dict[str, Case]
    """The case of the size at which its figure was found, by case."""
    notes: list[str]

    @property
    def complete(self) -> bool:
        """Whether every case has its figure."""
        return all(solo.status == "ok" for solo in self.results.solos.values())


def memory_needs(
    request: Request, *, predicted: bool, max_length: str | None = None, max_batch: str | None = None
) -> MemoryNeeds:
    """Peak memory of every case; with a budget (as `8GiB`) each model's longest length or largest batch.

    predicted: from shapes alone; else measured, which only a budget asks for. Raises UsageError.
    """
    if request.executor != "local":
        raise UsageError(
            f"--executor {request.executor}: --predict, --max-length and --max-batch are for this machine "
            "alone"
        )
    if max_length is not None and max_batch is not None:
        raise UsageError("--max-length and --max-batch: give one of them")
    axis = LENGTH if max_length is not None else BATCH
    text = max_length if max_batch is None else max_batch
    budget = None if text is None else _budget(axis, text)
    suite = load_suite(request)
    environment = probe_environment(request.device, suite.most_threads)
    check_shown(request, suite, environment)
    procedure = Procedure(suite, environment)
    solos: dict[str, Solo] = {}
    sized: dict[str, Case] = {}
    cases = suite.cases(procedure.kind) if budget is None else _one_of_each(axis, suite, procedure.kind)
    with ForkServer(procedure.threads, procedure.sources) as server:
        probe = (predicting if predicted else _measuring)(procedure, server)
        for case in cases:
            found, size = (
                (probe(case), getattr(case, axis.field))
                if budget is None
                else largest(case, budget, probe, axis)
            )
            sized[case.id] = axis.at(case, size)
            solos[case.id] = _solo(case, found, MEMORY_KIND[procedure.kind])
            _tell(sized[case.id], found)
    header = make_header(suite, environment)
    results = Results(path="", header=header, solos=solos, samples=[], lost={}, end=None)
    notes = [*(() if budget is None else (_note(axis, budget, suite.phase),)), *_notes(predicted, cases)]
    return MemoryNeeds(results, sized, notes)


def _one_of_each(axis: Axis, suite: Suite, kind: DeviceKind) -> list[Case]:
    """The cases of the axis's first value, which stands for all of them."""
    if suite.tokens is not None:
        raise UsageError(f"{axis.option}: takes a number of sequences (--batch), not of tokens")
    first = suite.lengths[0] if axis is LENGTH else suite.batches(kind, suite.lengths[0])[0]
    return [case for case in suite.cases(kind) if getattr(case, axis.field) == first]


def largest(case: Case, budget: int, probe: Probe, axis: Axis = LENGTH) -> tuple[Needs, int]:
    """The largest size of a case whose step stays within a budget of bytes, and what it needs there.

    Doubles until it does not fit, then bisects; more is taken to need more. Without a size that fits, the
    needs say why, and the size is the one that was tried.
    """
    most = axis.most(case)
    low, high, needs = 0, most + 1, Needs()
    size = min(axis.grain, most)
    while low < size < high:
        found = probe(axis.at(case, size))
        if found.bytes is None and not found.too_large:
            return found, size
        if found.bytes is not None and found.bytes <= budget:
            low, needs = size, found
        else:
            high = size
        size = _next(low, high, most, axis.grain)
    if low:
        return needs, low
    return Needs(reason=f"even {axis.grain} {axis.words} need more than {format_bytes(budget)}"), axis.grain


def _next(low: int, high: int, most: int, grain: int) -> int:
    """The next size to try; `low` if it is known well enough."""
    if high > most:
        return most if low < most <= 2 * low else 2 * low
    if high - low <= max(grain, low // RESOLUTION):
        return low
    return (low + high) // 2 // grain * grain


def predicting(procedure: Procedure, server: ForkServer) -> Probe:
    """The needs of cases by shapes alone; each is asked of a fresh worker."""

    def probe(case: Case) -> Needs:
        try:
            with server.start(case) as worker:
                question = Predict(case, procedure.environment.device)
                found = worker.ask(question, Predicted, procedure.deadline_seconds).prediction
        except WorkerFailed as failure:
            return Needs(reason=f"not predictable: {failure.reason}", traceback=failure.traceback)
        reason = None if found.reason is None else f"not predictable: {found.reason}"
        return Needs(bytes=found.tensor_bytes, parameters=found.parameters, width=found.width, reason=reason)

    return probe


def _measuring(procedure: Procedure, server: ForkServer) -> Probe:
    """The figure of the table's memory column after one step of warming up."""

    def probe(case: Case) -> Needs:
        try:
            with server.start(case) as worker:
                prepared = worker.ask(procedure.prepare(case), Prepared, procedure.deadline_seconds)
                compile_kernels(worker, procedure)
                worker.ask(Warm(1, 1, 1.0), Warmed, warm_up_deadline(case, procedure))
                memory = worker.ask(MeasureMemory(), MemoryMeasured, procedure.deadline_seconds)
        except WorkerFailed as failure:
            reason = f"{failure.status} at {case.length} × {case.batch}: {failure.reason}"
            return Needs(too_large=failure.status == "oom", reason=reason, traceback=failure.traceback)
        figure = next(figure for figure in memory.figures if figure.kind == MEMORY_KIND[procedure.kind])
        return Needs(
            bytes=figure.bytes,
            parameters=prepared.parameters,
            width=prepared.width,
            reason=figure.unavailable,
        )

    return probe


def _budget(axis: Axis, text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"{axis.option}: {error}") from None


def _solo(case: Case, needs: Needs, kind: str) -> Solo:
    if needs.bytes is None:
        return Solo(case=case, status="unsupported", reason=needs.reason, traceback=needs.traceback)
    figure = MemoryFigure(kind=kind, bytes=needs.bytes)
    return Solo(case=case, status="ok", parameters=needs.parameters, width=needs.width, memory=[figure])


def _tell(case: Case, needs: Needs) -> None:
    what = needs.reason if needs.bytes is None else format_bytes(needs.bytes)
    print(f"{case.implementation} at {case.length} × {case.batch}: {what}", file=sys.stderr, flush=True)


def _note(axis: Axis, budget: int, phase: Phase) -> str:
    which = "Length: the longest" if axis is LENGTH else "Batch: the largest"
    multiple = f", a multiple of {axis.grain}" if axis.grain > 1 else ""
    what = {"train": "trains", "forward": "runs forward", "decode": "decodes"}[phase]
    return f"{which} that {what} within {format_bytes(budget)}{multiple}, within 1/{RESOLUTION} of itself"


def _notes(predicted: bool, cases: list[Case]) -> Iterator[str]:
    if predicted:
        yield "Memory: predicted from shapes alone (peak of live tensor bytes in a step); nothing was run"
    else:
        yield "Memory: measured, one step at each size that was tried"
    if any(case.activation is not None for case in cases):
        yield "Activation: the rate that was given, taken to be that of every row and layer"
