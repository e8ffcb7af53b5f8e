"""One `bench run` from request to results: suite, environment, file, display, schedule."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import msgspec

from bench.errors import UsageError
from bench.measure.batch import fit_batch
from bench.measure.display import open_display
from bench.measure.executor import Executor, Local, Stopped, carry_out
from bench.measure.header import check_same_run, check_shown, make_header
from bench.measure.pairing import pair
from bench.measure.procedure import Procedure
from bench.measure.request import Request, load_suite, resume_line
from bench.measure.scheduler import Scheduler
from bench.probes.clock_lock import locked_clocks
from bench.probes.environment import probe_environment
from bench.probes.surroundings import read_surroundings
from bench.records.environment import Pairing
from bench.records.gpu import GpuSettings
from bench.records.reading import Results, read_kinds
from bench.records.run import End, Header
from bench.records.surroundings import Surroundings, remarks
from bench.records.writing import NotWritten, ResultFile
from bench.suites.suite import Suite
from bench.system.signals import termination_interrupts
from bench.text.escape import as_text


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run of a suite or of a collection."""

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


def run(request: Request, resumed_by: Path | None = None) -> Outcome:
    """Measure, and read back what was recorded. Raises UsageError before anything is measured.

    resumed_by: what the line that resumes names, a collection's folder; by default the result file.
    """
    suite = load_suite(request)
    path = request.resume or request.out
    kept = resumed_by or path
    line = resume_line(request.command, kept)
    interrupted = False
    with _executor(request, suite) as executor, _clocks(request, executor):
        check_shown(request, suite, executor.kinds[0])
        try:
            _measure(request, suite, executor, path)
        except KeyboardInterrupt:
            if not has_begun(path):
                raise
            interrupted = True
        except NotWritten as error:
            if not kept.exists():
                raise
            raise UsageError(f"{error}; make room, and resume with: {line}") from None
    return Outcome(as_text(path), read_kinds(path), interrupted, line)


def check_resumed(request: Request, earlier: Sequence[Results]) -> None:
    """Raise UsageError if the runs of a file are not those that a request would continue."""
    suite = load_suite(request)
    with _executor(request, suite) as executor, _clocks(request, executor):
        suite, _ = _fitted(request, suite, executor, earlier)
        header = make_header(suite, executor.kinds[0], command=request.command)
        check_same_run(earlier, header, executor.kinds, cluster=bool(executor.devices))


def _executor(request: Request, suite: Suite) -> Executor:
    """Whoever does the work. Raises UsageError if it can't be had."""
    if request.pairing not in get_args(Pairing):
        raise UsageError(f"--pairing {request.pairing}: choose {' or '.join(get_args(Pairing))}")
    if request.pairing == "duet":
        _check_duet(request, suite)
    if request.executor == "local":
        environment = probe_environment(request.device, suite.most_threads)
        return Local(pair(environment, request.pairing, suite.most_threads).environment)
    if request.executor == "ray":
        from bench.measure.cluster import Cluster

        return Cluster(suite, request.device, suite.most_threads)
    raise UsageError(f"--executor {request.executor}: choose local or ray")


def _clocks(request: Request, executor: Executor) -> AbstractContextManager[None]:
    """Within this context clocks are as they were asked for. Raises UsageError if they can't be."""
    megahertz, kind = request.lock_clocks, executor.kinds[0]
    if megahertz is None:
        return nullcontext()
    if executor.devices:
        raise UsageError("--lock-clocks: is for this machine's GPU; leave it out with --executor ray")
    if kind.kind != "cuda":
        raise UsageError(f"--lock-clocks {megahertz}: is for GPUs, and this run is on {kind.device}")
    settings = msgspec.structs.replace(kind.gpu or GpuSettings(), locked_sm_mhz=megahertz)
    executor.kinds[0] = msgspec.structs.replace(kind, gpu=settings)
    return locked_clocks(kind.device, megahertz)


def _check_duet(request: Request, suite: Suite) -> None:
    """Raises UsageError if models can't be timed beside their baseline."""
    if request.executor != "local":
        raise UsageError(f"--pairing duet: with --executor {request.executor} models take turns")
    cases = suite.cases("cpu")
    if len(cases) == len({case.cell for case in cases}):
        raise UsageError(f"--pairing duet: {suite.name} times one model; name one beside it with --impl")


def has_begun(path: Path) -> bool:
    """Whether a header is in the file; not if there is none that can be read."""
    try:
        return b"\n" in path.read_bytes()
    except OSError:
        return False


def _measure(request: Request, suite: Suite, executor: Executor, path: Path) -> None:
    """Raises KeyboardInterrupt if interrupted; the last record then says so."""
    begin = time.monotonic()
    resume = request.resume is not None

    def end(stopped: Stopped) -> None:
        seconds, surroundings = time.monotonic() - begin, _surroundings(executor)
        file.append(
            End(reason=stopped.reason, seconds=seconds, surroundings=surroundings, outlook=stopped.outlook)
        )

    with (
        termination_interrupts() as interruption,
        ResultFile(path, interruption.deferred, resume=resume) as file,
    ):
        suite, notices = _fitted(request, suite, executor, file.earlier)
        kind, surroundings = executor.kinds[0], _surroundings(executor)
        header = make_header(suite, kind, command=request.command, surroundings=surroundings)
        if file.earlier:
            check_same_run(file.earlier, header, executor.kinds, cluster=bool(executor.devices))
        try:
            stopped = _carry_out(request, suite, executor, file, header, notices)
        except KeyboardInterrupt:
            if file.count:
                end(Stopped("interrupted"))
            raise
        end(stopped)


def _surroundings(executor: Executor) -> Surroundings | None:
    """Other work on this machine; None if others measure."""
    return None if executor.devices else read_surroundings()


def _fitted(
    request: Request, suite: Suite, executor: Executor, earlier: Sequence[Results]
) -> tuple[Suite, Sequence[str]]:
    """The suite with the batch that it is timed with, and what to say of it. Raises UsageError."""
    if executor.devices:
        if suite.fit_batch:
            raise UsageError(
                "--batch auto: looks at this machine's device; with --executor ray give a number"
            )
        return suite, executor.notices
    if suite.fit_batch and earlier:
        # What is free may have changed since; the batch may not.
        return msgspec.structs.replace(suite, batch=earlier[0].header.suite.batch), ()
    return fit_batch(Procedure(suite, executor.kinds[0], quick=request.quick))


def _carry_out(
    request: Request,
    suite: Suite,
    executor: Executor,
    file: ResultFile,
    header: Header,
    notices: Sequence[str],
) -> Stopped:
    if not file.earlier:
        file.append(header)
    for device in executor.devices:
        file.append(device)
    with open_display(quiet=request.quiet) as display:
        for notice in notices:
            display.notice(notice)
        for remark in remarks(header.surroundings) if header.surroundings else ():
            display.notice(remark.line)
        if file.earlier:
            display.resumes(file.earlier)
        earlier = {run.header.environment.machine: run for run in file.earlier}
        schedulers = [
            Scheduler(
                Procedure(
                    suite, kind, quick=request.quick, energy=request.energy, arithmetic=request.arithmetic
                ),
                file,
                display,
                earlier.get(kind.machine),
                executor.count(kind),
                header.sources,
            )
            for kind in executor.kinds
        ]
        return carry_out(executor, schedulers)
