"""One `bench run` from request to results: suite, environment, file, display, schedule."""

import time
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UsageError
from bench.measure.display import open_display
from bench.measure.executor import Executor, Local, carry_out
from bench.measure.header import check_same_run, make_header
from bench.measure.procedure import Procedure
from bench.measure.request import Request, load_suite, resume_line
from bench.measure.scheduler import Scheduler
from bench.probes.environment import as_text, probe_environment
from bench.records.reading import Results, read_kinds
from bench.records.run import End, Header, StopReason
from bench.records.writing import NotWritten, ResultFile
from bench.suites.suite import Suite
from bench.system.signals import termination_interrupts


@dataclass(frozen=True)
class Outcome:
    """What a run of a suite or of a collection came to."""

    path: str
    """The result file, or a collection's folder of them."""
    runs: list[Results]
    """One per kind of device and suite."""
    interrupted: bool
    resume_line: str

    @property
    def results(self) -> Results:
        """Those of the first kind of device."""
        return self.runs[0]

    @property
    def complete(self) -> bool:
        """Whether every case ran, and was timed to the end."""
        return not self.interrupted and all(results.complete for results in self.runs)


def run(request: Request) -> Outcome:
    """Measure, and read back what was recorded. Raises UsageError before anything is measured."""
    suite = load_suite(request)
    path = request.resume or request.out
    line = resume_line(request.command, path)
    interrupted = False
    with _executor(request, suite) as executor:
        try:
            _measure(request, suite, executor, path)
        except KeyboardInterrupt:
            if not _has_begun(path):
                raise
            interrupted = True
        except NotWritten as error:
            if not path.exists():
                raise
            raise UsageError(f"{error}; make room, and resume with: {line}") from None
    return Outcome(as_text(path), read_kinds(path), interrupted, line)


def _executor(request: Request, suite: Suite) -> Executor:
    """Whoever does the work. Raises UsageError if it can't be had."""
    if request.executor == "local":
        return Local(probe_environment(request.device, request.threads))
    if request.executor == "ray":
        from bench.measure.cluster import Cluster

        return Cluster(suite, request.device, request.threads)
    raise UsageError(f"--executor {request.executor}: choose local or ray")


def _has_begun(path: Path) -> bool:
    """Whether a header is in the file."""
    return path.exists() and b"\n" in path.read_bytes()


def _measure(request: Request, suite: Suite, executor: Executor, path: Path) -> None:
    """Raises KeyboardInterrupt if interrupted; the last record then says so."""
    begin = time.monotonic()
    resume = request.resume is not None

    def end(reason: StopReason) -> None:
        file.append(End(reason=reason, seconds=time.monotonic() - begin))

    with (
        termination_interrupts() as interruption,
        ResultFile(path, interruption.deferred, resume=resume) as file,
    ):
        header = make_header(suite, executor.kinds[0], command=request.command)
        if file.earlier:
            check_same_run(file.earlier, header, executor.kinds, cluster=bool(executor.devices))
        try:
            reason = _carry_out(request, suite, executor, file, header)
        except KeyboardInterrupt:
            if file.count:
                end("interrupted")
            raise
        end(reason)


def _carry_out(
    request: Request, suite: Suite, executor: Executor, file: ResultFile, header: Header
) -> StopReason:
    if not file.earlier:
        file.append(header)
    for device in executor.devices:
        file.append(device)
    with open_display(suite.budget_seconds) as display:
        for notice in executor.notices:
            display.notice(notice)
        if file.earlier:
            display.resumes(file.earlier)
        earlier = {run.header.environment.machine: run for run in file.earlier}
        schedulers = [
            Scheduler(
                Procedure(suite, kind, quick=request.quick, energy=request.energy),
                file,
                display,
                earlier.get(kind.machine),
                executor.count(kind),
            )
            for kind in executor.kinds
        ]
        return carry_out(executor, schedulers)
