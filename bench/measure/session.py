"""One `bench run` from request to results: suite, environment, store, display, runner."""

import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bench import workloads
from bench.errors import UsageError
from bench.measure.display import open_display
from bench.measure.executor import Executor, Local, carry_out
from bench.measure.procedure import Plan
from bench.measure.scheduler import Runner
from bench.probes.code import measured_commit
from bench.probes.environment import command_line, probe_environment
from bench.records import checkpoint as checkpoints
from bench.records.reading import Results, read_kinds
from bench.records.run import SCHEMA, End, Environment, Header, StopReason
from bench.records.writing import NotWritten, ResultFile
from bench.suites import reading
from bench.suites.suite import Suite, Timing, Training
from bench.system.signals import termination_interrupts
from implementations import registry


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    suite: str
    out: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    batch: int | None = None
    budget: str | None = None
    device: str = "auto"
    threads: int | None = None
    quick: bool = False
    energy: bool = False
    resume: Path | None = None
    checkpoints: tuple[Path, ...] = ()
    """Of bench train: their models are timed as trained, on sequences that no training sees."""
    executor: str = "local"
    """`local`, or `ray`: the devices of a Ray cluster."""
    command: list[str] = field(default_factory=command_line)
    """How the run was called; by default this process's command line."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    runs: list[Results]
    """One for each kind of device; this machine's has one."""
    interrupted: bool
    resume_line: str

    @property
    def results(self) -> Results:
        """Of the first kind of device."""
        return self.runs[0]

    @property
    def path(self) -> str:
        return self.results.path

    @property
    def complete(self) -> bool:
        """Whether every case ran, and was timed to the end."""
        return all(results.complete for results in self.runs)


def run(request: Request) -> Outcome:
    """Measure, and read back what was recorded. Raises UsageError before anything is measured."""
    suite = load_suite(request)
    path = request.resume or request.out
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
            raise UsageError(f"{error}; make room, and go on with: {resume_line(path)}") from None
    return Outcome(read_kinds(path), interrupted, resume_line(path))


def _executor(request: Request, suite: Suite) -> Executor:
    """Who does the work. Raises UsageError where that can't be had."""
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
        store.append(End(reason=reason, seconds=time.monotonic() - begin))

    with (
        termination_interrupts() as interruption,
        ResultFile(path, interruption.deferred, resume=resume) as store,
    ):
        header = make_header(suite, executor.kinds[0], command=request.command)
        if store.earlier:
            _check_same_run(store.earlier, header, executor)
        try:
            reason = _carry_out(request, suite, executor, store, header)
        except KeyboardInterrupt:
            if store.count:
                end("interrupted")
            raise
        end(reason)


def _carry_out(
    request: Request, suite: Suite, executor: Executor, store: ResultFile, header: Header
) -> StopReason:
    if not store.earlier:
        store.append(header)
    for device in executor.devices:
        store.append(device)
    with open_display(suite.budget_seconds) as display:
        for notice in executor.notices:
            display.notice(notice)
        if store.earlier:
            display.resumes(store.earlier)
        earlier = {run.header.environment.machine: run for run in store.earlier}
        runners = [
            Runner(
                _plan(request, suite, kind),
                store,
                display,
                earlier.get(kind.machine),
                executor.count(kind),
            )
            for kind in executor.kinds
        ]
        return carry_out(executor, runners)


def _plan(request: Request, suite: Suite, kind: Environment) -> Plan:
    machine = (kind.device, kind.threads, kind.memory_bytes)
    return Plan(suite, *machine, quick=request.quick, energy=request.energy)


def default_out(suite: str, kind: str = "", suffix: str = ".jsonl") -> Path:
    """Where a run is kept that was given no place: below results/runs, by kind, suite and time."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    name = "-".join(part for part in (kind, Path(suite).stem, stamp) if part)
    return Path("results") / "runs" / f"{name}{suffix}"


def load_suite(request: Request) -> Suite:
    """The suite with the request's changes. Raises UsageError."""
    suite = reading.load(
        request.suite, request.overrides, batch=request.batch, budget=request.budget, quick=request.quick
    )
    if not request.checkpoints:
        return suite
    files = _checkpoints(request.checkpoints, suite)
    fill = request.overrides.get("fill", "real")
    return reading.changed(suite, {"checkpoints": files, "fill": fill})


def _checkpoints(paths: Iterable[Path], suite: Suite) -> dict[str, str]:
    """Checkpoint files by implementation. Raises UsageError where one does not fit what the suite times."""
    files: dict[str, str] = {}
    data = workloads.load(suite.workload).data()
    for path in paths:
        checkpoint = checkpoints.read(path)
        case = checkpoint.case
        if checkpoint.data != data:
            raise UsageError(f"{path}: was trained on {checkpoint.data}; here the data is {data}")
        wanted: dict[str, Sequence[object]] = {
            "workload": [suite.workload],
            "length": suite.lengths,
            "hyperparameters": [suite.hyperparameters],
        }
        for what, values in wanted.items():
            if (trained := getattr(case, what)) not in values or len(values) > 1:
                times = ", ".join(map(str, values))
                raise UsageError(f"{path}: was trained with {what} {trained}; the suite times {times}")
        if case.implementation in files:
            raise UsageError(f"{path}: {case.implementation} has a checkpoint already")
        files[case.implementation] = str(path)
    plain = {registry.find(name).plain for name in suite.implementations}
    for name, file in files.items():
        if registry.find(name).plain not in plain:
            raise UsageError(f"{file}: holds {name}, which is not timed; add it with --impl")
    return files


def make_header(
    suite: Suite,
    environment: Environment,
    revisions: dict[str, str] | None = None,
    command: list[str] | None = None,
) -> Header:
    """The first line of a result file that is begun now."""
    commit, dirty = measured_commit(suite.implementations, (environment.commit, environment.dirty))
    if revisions and (head := revisions.get("head")):
        commit, dirty = head.removesuffix("-dirty"), head.endswith("-dirty")
    return Header(
        schema=SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command or command_line(),
        suite=suite,
        environment=msgspec.structs.replace(environment, commit=commit, dirty=dirty),
        data=workloads.load(suite.workload).data(),
        revisions=revisions,
        checkpoints={
            name: checkpoints.read(Path(file)).trained(Path(file)) for name, file in suite.checkpoints.items()
        },
    )


def _check_same_run(earlier: list[Results], now: Header, executor: Executor) -> None:
    """Raises UsageError where what is to be continued was another suite, other data or other machines."""
    path, then = earlier[0].path, earlier[0].header
    if then.revisions is not None:
        raise UsageError(f"{path}: holds a gate's raw data, which cannot be continued; start anew")
    if _grid(then.suite) != _grid(now.suite):
        raise UsageError(
            f"{path}: was made by another suite ({then.suite.name} with other settings); "
            f"repeat its command line: {shlex.join(then.command)}"
        )
    if then.data != now.data:
        raise UsageError(f"{path}: was made of other data ({then.data}; now {now.data}); start anew")
    if len(earlier) > 1 and not executor.devices:
        raise UsageError(f"{path}: holds {len(earlier)} kinds of device; go on with --executor ray")
    known = {run.header.environment.machine for run in earlier}
    if not any(kind.machine in known for kind in executor.kinds):
        old, new = then.environment.words, now.environment.words
        raise UsageError(f"{path}: comes from another machine ({old}; this is {new}); start anew")


def _grid(suite: Suite) -> Suite:
    """What must be equal for two runs to be one: not the time they may take, nor how models are trained."""
    return msgspec.structs.replace(
        suite, timing=Timing(), quick=Timing(), training=Training(), limits={}, ignore={}, description=""
    )


def resume_line(path: Path) -> str:
    words = command_line()
    if "--resume" not in words:
        words = [*_without_out(words), "--resume", str(path)]
    return shlex.join(words)


def _without_out(words: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word != "--out" and not word.startswith("--out="):
            kept.append(word)
        skip = word == "--out"
    return kept
