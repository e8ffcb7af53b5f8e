"""One `bench run` from request to results: suite, environment, store, display, runner."""

import contextlib
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from bench import suite as suites
from bench import workloads
from bench.display import open_display
from bench.errors import UsageError
from bench.plan import Plan
from bench.probes.environment import command_line, default_threads
from bench.record import SCHEMA, Environment, Header, Results, Store, read
from bench.runner import Runner
from bench.suite import Suite
from bench.training import checkpoint as checkpoints
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


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    results: Results
    interrupted: bool
    resume_line: str

    @property
    def complete(self) -> bool:
        """Whether every case ran, and was timed to the end."""
        return not self.results.lost and all(solo.status == "ok" for solo in self.results.solos.values())


def run(request: Request) -> Outcome:
    """Measure, and read back what was recorded. Raises UsageError before anything is measured."""
    suite = load_suite(request)
    environment = probe_environment(request.device, request.threads or default_threads())
    earlier = _earlier(request, suite, environment)
    path = request.resume or request.out
    machine = (environment.device, environment.threads, environment.memory_bytes)
    plan = Plan(suite, *machine, quick=request.quick, energy=request.energy)
    interrupted = False
    try:
        with termination_interrupts(), Store(path, resume=earlier is not None) as store:
            if earlier is None:
                store.append(make_header(suite, environment))
            with open_display(suite.budget_seconds) as display:
                Runner(plan, store, display, earlier).run()
    except KeyboardInterrupt:
        interrupted = True
    return Outcome(read(path), interrupted, _resume_line(path))


def load_suite(request: Request) -> Suite:
    """The suite with the request's changes. Raises UsageError."""
    overrides = dict(request.overrides)
    suite = suites.load(request.suite)
    if request.checkpoints:
        overrides = {"fill": "real", **overrides, "checkpoints": _checkpoints(request, overrides, suite)}
    if request.batch is not None:
        overrides["batch"] = {"cpu": request.batch, "cuda": request.batch}
    timing = suite.quick if request.quick else suite.timing
    if request.budget is not None:
        timing = msgspec.structs.replace(timing, budget=request.budget)
    overrides["timing"] = msgspec.to_builtins(timing)
    chosen = overrides.get("implementations", list(suite.implementations))
    baseline = overrides.get("baseline", suite.baseline)
    if baseline not in chosen and "baseline" not in overrides:
        # Ratios need their baseline, also where the user named only her own models.
        overrides["implementations"] = [baseline, *chosen]
    return suites.load(request.suite, overrides)


def _checkpoints(request: Request, overrides: dict[str, Any], suite: Suite) -> dict[str, str]:
    """Checkpoint files by implementation. Raises UsageError where one does not fit what the suite times."""
    files: dict[str, str] = {}
    for path in request.checkpoints:
        case = checkpoints.read(path).case
        wanted = {
            "workload": [suite.workload],
            "length": overrides.get("lengths", list(suite.lengths)),
            "hyperparameters": [overrides.get("hyperparameters", suite.hyperparameters)],
        }
        for what, values in wanted.items():
            if (trained := getattr(case, what)) not in values or len(values) > 1:
                times = ", ".join(map(str, values))
                raise UsageError(f"{path}: was trained with {what} {trained}; the suite times {times}")
        if case.implementation in files:
            raise UsageError(f"{path}: {case.implementation} has a checkpoint already")
        files[case.implementation] = str(path)
    plain = {registry.find(name).plain for name in overrides.get("implementations", suite.implementations)}
    for name, file in files.items():
        if registry.find(name).plain not in plain:
            raise UsageError(f"{file}: holds {name}, which is not timed; add it with --impl")
    return files


def probe_environment(device: str, threads: int) -> Environment:
    """The environment, read in a process of its own. Raises UsageError where the device is not there."""
    if not _is_device(device):
        raise UsageError(f"--device {device}: choose auto, cpu, cuda or cuda:i")
    child = subprocess.run(
        [sys.executable, "-m", "bench.probes.environment", device, str(threads)],
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines() or ["no reason given"]
        raise UsageError(lines[-1])
    return msgspec.json.decode(child.stdout, type=Environment)


def _is_device(name: str) -> bool:
    kind, _, index = name.partition(":")
    return name in ("auto", "cpu", "cuda") or (kind == "cuda" and index.isdigit())


def make_header(suite: Suite, environment: Environment, revisions: dict[str, str] | None = None) -> Header:
    """The first line of a result file that is begun now."""
    return Header(
        schema=SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command_line(),
        suite=suite,
        environment=environment,
        data=workloads.load(suite.workload).data(),
        revisions=revisions,
        checkpoints={
            name: checkpoints.read(Path(file)).trained(Path(file)) for name, file in suite.checkpoints.items()
        },
    )


def _earlier(request: Request, suite: Suite, environment: Environment) -> Results | None:
    """What is to be continued. Raises UsageError where that was another suite or another machine."""
    if request.resume is None:
        return None
    earlier = read(request.resume)
    if _grid(earlier.header.suite) != _grid(suite):
        raise UsageError(
            f"{request.resume}: was made by another suite ({earlier.header.suite.name} with other settings); "
            f"repeat its command line: {shlex.join(earlier.header.command)}"
        )
    if earlier.header.environment.machine != environment.machine:
        then, now = earlier.header.environment, environment
        raise UsageError(
            f"{request.resume}: comes from another machine ({then.hardware}, {then.threads} threads, torch "
            f"{then.torch}; this is {now.hardware}, {now.threads} threads, torch {now.torch}); start anew"
        )
    return earlier


def _grid(suite: Suite) -> Suite:
    """What must be equal for two runs to be one: not the time they may take, nor how models are trained."""
    return msgspec.structs.replace(
        suite, timing=suites.Timing(), quick=suites.Timing(), training=suites.Training(), description=""
    )


def _resume_line(path: Path) -> str:
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


@contextlib.contextmanager
def termination_interrupts() -> Iterator[None]:
    """Within this context SIGTERM is a KeyboardInterrupt, so that all is put in order as after Ctrl-C."""
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
