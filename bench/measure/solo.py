"""The solo pass: a case alone on the machine, to see whether it runs and what it needs."""

import statistics
import time

import msgspec

from bench.measure.compilation import compile_kernels, warm_up_deadline
from bench.measure.procedure import Procedure
from bench.records.solo import Arithmetic, Decoding, MetricFigure, Solo
from bench.suites.case import Case
from bench.workers.forkserver import ForkServer
from bench.workers.handle import WorkerFailed, WorkerProcess
from bench.workers.messages import (
    ArithmeticMeasured,
    BusyMeasured,
    Check,
    Checked,
    Count,
    Counted,
    Decode,
    Decoded,
    EnergyMeasured,
    EvaluateMetric,
    MeasureArithmetic,
    MeasureBusy,
    MeasureEnergy,
    MeasureMemory,
    MemoryMeasured,
    MetricEvaluated,
    Prepared,
    Warmed,
)

MOVES = "its optimiser moves the weights at a learning rate of 0: no step is the same as the one before"
CHECK_DEADLINES = 5
"""A comparison has this many times the deadline of a case: it runs the reference too, maybe in float64."""


def measure_solo(case: Case, procedure: Procedure, server: ForkServer, *, exact: bool = False) -> Solo:
    """Build, warm up, measure memory and activation, and hold a variant against its reference.

    exact: count first what a step costs without a clock. A case that fails comes back with its status and
    the reason; nothing is raised.
    """
    printed = None
    try:
        with server.start(case) as worker:
            try:
                solo = _measure(case, procedure, worker, exact)
            finally:
                printed = worker.printed
    except WorkerFailed as failure:
        solo = failed(case, failure)
    return msgspec.structs.replace(solo, printed=printed)


def failed(case: Case, failure: WorkerFailed) -> Solo:
    """A case whose worker failed."""
    return Solo(
        case=case,
        status=failure.status,
        reason=failure.reason,
        traceback=failure.traceback,
        printed=failure.printed,
    )


def measure_exact(case: Case, procedure: Procedure, server: ForkServer) -> Solo:
    """Only what a step costs without a clock; a case that fails comes back with its status and the reason."""
    try:
        with server.start(case) as worker:
            prepared = worker.ask(procedure.prepare(case), Prepared, procedure.deadline_seconds)
            compile_kernels(worker, procedure)
            counted = worker.ask(Count(), Counted, procedure.deadline_seconds)
    except WorkerFailed as failure:
        return failed(case, failure)
    # It runs, whether its costs can be counted or not.
    unknown = None if counted.exact else f"no exact costs: {counted.unavailable}"
    return Solo(case=case, status="ok", reason=unknown, parameters=prepared.parameters, exact=counted.exact)


def _measure(case: Case, procedure: Procedure, worker: WorkerProcess, exact: bool) -> Solo:
    end = time.monotonic() + procedure.deadline_seconds

    def left() -> float:
        return max(0.0, end - time.monotonic())

    begin = time.monotonic()
    prepared = worker.ask(procedure.prepare(case), Prepared, left())
    prepare_seconds = time.monotonic() - begin
    compile_seconds = compile_kernels(worker, procedure)
    end += compile_seconds
    counted = worker.ask(Count(), Counted, left()).exact if exact else None
    warmed = worker.ask(
        procedure.solo_warm_up,
        Warmed,
        left() if case.mode != "compile" else warm_up_deadline(case, procedure),
    )
    end += warmed.compiled.first_step_seconds if warmed.compiled else 0.0
    memory = worker.ask(MeasureMemory(), MemoryMeasured, left())
    busy = worker.ask(MeasureBusy(), BusyMeasured, left()).busy if procedure.kind == "cuda" else None
    energy = worker.ask(MeasureEnergy(), EnergyMeasured, left()).energy if procedure.energy else None
    arithmetic = _arithmetic(worker, left()) if procedure.arithmetic else None
    begin = time.monotonic()
    checked = _compared(worker, procedure, case, prepared)
    end += time.monotonic() - begin  # It has deadlines of its own.
    decoding = worker.ask(Decode(), Decoded, left()).decoding if case.phase == "decode" else None
    wrong = _disagreement(checked, decoding)
    # Last, since nothing of the user's own may touch what is measured.
    figures = _figures(worker, procedure)
    return Solo(
        case=case,
        status="ok" if wrong is None else "wrong",
        reason=wrong,
        parameters=prepared.parameters,
        tokens=prepared.tokens,
        real_tokens=prepared.real_tokens,
        prepare_seconds=prepare_seconds,
        compile_seconds=compile_seconds,
        warmup_seconds=warmed.step_seconds,
        stationary=warmed.stationary,
        step_seconds=statistics.median(warmed.step_seconds[-3:]),
        memory=memory.figures,
        activation=memory.activation,
        variant=checked.variant,
        in_mode=checked.in_mode,
        compiled=warmed.compiled,
        width=prepared.width,
        decoding=decoding,
        backend=prepared.backend,
        why_plain=prepared.why_plain,
        exact=counted,
        energy=energy,
        gpu_busy=busy,
        arithmetic=arithmetic,
        growth_bytes=memory.growth_bytes,
        metrics=figures,
        computed_by=memory.computed_by,
        remarks=[*prepared.remarks, *([MOVES] if memory.moved else [])],
        batch_digest=prepared.batch_digest,
    )


def _figures(worker: WorkerProcess, procedure: Procedure) -> list[MetricFigure]:
    """Those of the suite's metrics; one that ends or hangs the process costs its own and those after it."""
    figures: list[MetricFigure] = []
    for number, name in enumerate(procedure.suite.metrics):
        try:
            figures.append(
                worker.ask(EvaluateMetric(name), MetricEvaluated, procedure.deadline_seconds).figure
            )
        except WorkerFailed as failure:
            figures.append(MetricFigure(metric=name, failure=f"{failure.status}: {failure.reason}"))
            later = procedure.suite.metrics[number + 1 :]
            return figures + [MetricFigure(metric=each, failure=f"not asked after {name}") for each in later]
    return figures


def _arithmetic(worker: WorkerProcess, seconds_left: float) -> Arithmetic:
    return worker.ask(MeasureArithmetic(), ArithmeticMeasured, seconds_left).arithmetic


def _compared(worker: WorkerProcess, procedure: Procedure, case: Case, prepared: Prepared) -> Checked:
    """A variant against its reference, and a mode against the plain step; nothing if it is neither."""
    has_reference = _has_reference(prepared)
    if not has_reference and case.mode == "eager":
        return Checked(None)
    try:
        return worker.ask(Check(has_reference), Checked, CHECK_DEADLINES * procedure.deadline_seconds)
    except WorkerFailed as failure:
        reason = f"when it was compared with its reference: {failure.reason}"
        raise WorkerFailed(failure.status, reason, failure.traceback) from None


def _has_reference(prepared: Prepared) -> bool:
    """Whether there is a reference: one of another name, or its own plain form if fused kernels compute."""
    return prepared.reference is not None or prepared.backend != "torch"


def _disagreement(checked: Checked, decoding: Decoding | None) -> str | None:
    """A model's difference from what it should compute; None if there is none."""
    if decoding is not None and not decoding.agrees:
        return (
            f"decodes something else than its parallel form: outputs differ by {decoding.parallel_error:.1e}"
        )
    wrong = [each for each in (checked.variant, checked.in_mode) if each and not each.agrees]
    return f"computes something else than {wrong[0].reference}: {wrong[0].words}" if wrong else None
