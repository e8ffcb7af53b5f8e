"""Whether the baseline fits the device, and which batch does if not: asked before a run, by shapes alone."""

from collections.abc import Callable, Iterator

import msgspec

from bench.measure.memory_needs import predicting
from bench.measure.procedure import Procedure
from bench.measure.residency import CONTEXT_BYTES, room_bytes
from bench.suites.case import Case
from bench.suites.suite import BatchSizes, Suite
from bench.text.units import format_bytes
from bench.workers.forkserver import ForkServer

BytesOf = Callable[[Case], int | None]
"""Bytes of a step of a case; None if nobody can tell."""


def fit_batch(procedure: Procedure) -> tuple[Suite, list[str]]:
    """The suite, with a batch that its baseline fits if it says `auto`, and what to say to the user.

    Without `batch: auto` only a GPU is looked at, and the suite stays as it is.
    """
    suite, kind = procedure.suite, procedure.kind
    if kind == "cpu" and not suite.fit_batch:
        return suite, []
    room = room_bytes(procedure.environment) - (CONTEXT_BYTES if kind == "cuda" else 0)
    cases = [case for case in suite.cases(kind) if case.implementation == suite.baseline]
    if suite.fit_batch:  # Of several batches the largest is the one to reach.
        most = max(case.batch for case in cases)
        cases = [case for case in cases if case.batch == most]
    cells = {case.cell: case for case in cases}
    with ForkServer(procedure.threads, procedure.sources) as server:
        probe = predicting(procedure, server)
        fitting = [
            (case, largest_batch(case, room, lambda case: probe(case).bytes)) for case in cells.values()
        ]
    if not suite.fit_batch:
        return suite, list(_warnings(fitting, room, procedure.environment.device))
    known = [batch for _, batch in fitting if batch is not None]
    most = max(case.batch for case, _ in fitting)
    batch = max(1, min([most, *known]))
    why = "the suite's own" if batch == most else f"the largest with which {suite.baseline} fits"
    return (
        msgspec.structs.replace(suite, batch=BatchSizes(cpu=batch, cuda=batch)),
        [f"batch auto: {batch}, {why} in {format_bytes(room)}"],
    )


def largest_batch(case: Case, room: int, needs: BytesOf) -> int | None:
    """The largest batch, up to the case's own, whose step takes no more than a room in bytes.

    0 if not even one sequence does, None if nobody can tell.
    """
    whole = needs(case)
    if whole is None or whole <= room:
        return None if whole is None else case.batch
    one = whole if case.batch == 1 else needs(msgspec.structs.replace(case, batch=1))
    if one is None or one > room:
        return None if one is None else 0
    low, high = 1, case.batch
    # Nearly a line: the first guess is right, the second one shows it.
    guess = 1 + (room - one) * (case.batch - 1) // max(1, whole - one)
    while high - low > 1:
        guess = min(max(guess, low + 1), high - 1)
        found = needs(msgspec.structs.replace(case, batch=guess))
        if found is None:
            return None
        near = guess == low + 1 or guess == high - 1
        low, high = (guess, high) if found <= room else (low, guess)
        guess = (low + high) // 2 if near else (low + 1 if low == guess else high - 1)
    return low


def _warnings(fitting: list[tuple[Case, int | None]], room: int, device: str) -> Iterator[str]:
    for case, batch in fitting:
        if batch is None or batch == case.batch:
            continue
        advice = f"--batch {batch} fits, and --batch auto takes it" if batch else "not even one sequence fits"
        yield (
            f"the baseline {case.implementation} at {case.length} × {case.batch} ({case.precision}) needs "
            f"more than the {format_bytes(room)} that {device} has for it: {advice}"
        )
