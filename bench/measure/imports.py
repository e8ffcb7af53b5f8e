"""Imports of models that are not this package's own, before anything is measured: they may fail."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from bench.measure.procedure import Procedure
from bench.measure.solo import failed
from bench.records.solo import Solo
from bench.suites.case import Case
from bench.workers.forkserver import ForkServer
from bench.workers.handle import WorkerFailed
from bench.workers.messages import Import, Imported
from implementations import registry


def plugged_in(cases: Iterable[Case]) -> list[list[Case]]:
    """The cases of each model that comes from a module of someone else."""
    by_model: dict[str, list[Case]] = {}
    for case in cases:
        if registry.find(case.implementation).plugged_in:
            by_model.setdefault(case.implementation, []).append(case)
    return list(by_model.values())


def failed_imports(cases: Sequence[Case], procedure: Procedure, server: ForkServer) -> Iterator[Solo]:
    """Every case of one model, with the reason, if it can't be imported; none if it can."""
    with server.start(cases[0]) as worker:
        try:
            worker.ask(Import(cases[0]), Imported, procedure.deadline_seconds)
            return
        except WorkerFailed as failure:
            found = [msgspec.structs.replace(failed(case, failure), printed=worker.printed) for case in cases]
    yield from found
