"""Time to compile in: a question of its own for kernels of a GPU, the warm-up in the mode `compile`."""

import time

from bench.measure.procedure import UNCOUNTED_STEPS, Procedure
from bench.records.solo import Solo
from bench.suites.case import Case
from bench.workers.handle import WorkerFailed, WorkerProcess
from bench.workers.messages import Compile, Compiled, Warmed

COMPILE_DEADLINES = 5
"""Compiling has this many times the deadline of a case."""


def compile_kernels(worker: WorkerProcess, procedure: Procedure) -> float:
    """Have a prepared worker compile what it runs; seconds that it took. On a CPU there is nothing to do.

    Raises WorkerFailed.
    """
    if procedure.kind != "cuda":
        return 0.0
    begin = time.monotonic()
    try:
        worker.ask(Compile(UNCOUNTED_STEPS), Compiled, COMPILE_DEADLINES * procedure.deadline_seconds)
    except WorkerFailed as failure:
        if failure.status != "timeout":
            raise
        raise WorkerFailed("timeout", f"in its first steps, which compile: {failure.reason}") from None
    return time.monotonic() - begin


def warm_up(worker: WorkerProcess, procedure: Procedure, solo: Solo) -> None:
    """Have a prepared worker of a block compile what it runs, and warm up. Raises WorkerFailed."""
    compile_kernels(worker, procedure)
    worker.ask(procedure.block_warm_up(solo), Warmed, warm_up_deadline(solo.case, procedure))


def warm_up_deadline(case: Case, procedure: Procedure) -> float:
    """Seconds that a case's warm-up may take, which in the mode `compile` compiles."""
    return procedure.deadline_seconds * (COMPILE_DEADLINES if case.mode == "compile" else 1)
