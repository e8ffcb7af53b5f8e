"""The request of one `bench run`, from the command line or from `bench.run`, and the suite that it means."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bench import workloads
from bench.errors import UsageError
from bench.probes.environment import command_line
from bench.records import checkpoint as checkpoints
from bench.records.reading import Results, read_kinds
from bench.records.writing import RUNS
from bench.suites import reading
from bench.suites.files import SuiteFile
from bench.suites.suite import Suite
from bench.text.escape import as_text
from implementations import registry


@dataclass(frozen=True)
class Request:
    """A user's request."""

    suite: str | SuiteFile
    """A name, a path, or a file that was read already."""
    out: Path
    overrides: dict[str, Any] = field(default_factory=dict)
    """Fields of the suite, in place of its own."""
    budget: str | None = None
    device: str = "auto"
    threads: int | Sequence[int] | None = None
    quick: bool = False
    quiet: bool = False
    """Whether nothing is said of what is being measured."""
    energy: bool = False
    arithmetic: bool = False
    """Whether FLOPs are counted, and the device's ceiling measured, as the columns TFLOP/s and MFU need."""
    lock_clocks: int | None = None
    """SM clock in MHz that a GPU is fixed at for the run."""
    resume: Path | None = None
    checkpoints: tuple[Path, ...] = ()
    """Checkpoints of bench train: their models are timed as trained, on sequences that no training sees."""
    pairing: str = "turns"
    """`turns`, or `duet`: each model at the same time as the baseline, on half of the cores each."""
    executor: str = "local"
    """`local`, or `ray`: the devices of a Ray cluster."""
    check: Callable[[Results], None] | None = None
    """Sees the run while nothing of it is measured, and raises UsageError if it can't be shown as asked."""
    command: list[str] = field(default_factory=command_line)
    """The call of the run; by default this process's command line."""


def request_for(suite: str | SuiteFile, out: str | Path | None = None, **options: Any) -> Request:
    """A request from options, as the command line and `bench.run` have them.

    out: by default a new file below results/runs. options: fields of Request, or of the suite in place of its
    own; what is None stays as it is.
    """
    given = {name: value for name, value in options.items() if value is not None}
    own = {field.name: given.pop(field.name) for field in fields(Request) if field.name in given}
    return Request(suite, default_out(_name(suite)) if out is None else Path(out), overrides=given, **own)


def recorded_suite(results: Results, path: Path) -> SuiteFile:
    """The suite of a record, ready to be run. path: what errors name.

    Raises UsageError if it means something else to this version.
    """
    suite = results.header.suite
    file = SuiteFile(path, msgspec.json.decode(msgspec.json.encode(suite)))
    if reading.load(file) != suite:
        raise UsageError(f"{path}: its suite means something else to this version")
    return file


def begun(path: Path) -> tuple[SuiteFile, dict[str, Any]]:
    """Suite of a run that is to be continued, and how it was called. Raises UsageError."""
    if path.is_dir():
        raise UsageError(f"--resume {path}: is a collection's folder; name the collection with --suite")
    results = read_kinds(path)[0]
    header = results.header
    flags = {name: f"--{name}" in header.command for name in ("quick", "energy")}
    gpu, budget = header.environment.gpu, header.suite.timing.budget
    words = {
        "pairing": header.environment.pairing,
        "arithmetic": any(solo.arithmetic for solo in results.solos.values()),
        "lock_clocks": gpu.locked_sm_mhz if gpu else None,
        "budget": budget if isinstance(budget, str) else f"{budget:.3f}s",
    }
    return recorded_suite(results, path), words | flags


def _name(suite: str | SuiteFile) -> str:
    return suite if isinstance(suite, str) else str(suite.path)


def default_out(suite: str, kind: str = "", suffix: str = ".jsonl") -> Path:
    """Default path of a run: below results/runs, by kind, suite and time."""
    # To the microsecond: runs that begin in the same second have files of their own.
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    name = "-".join(part for part in (kind, Path(suite).stem, stamp) if part)
    return RUNS / f"{name}{suffix}"


def load_suite(request: Request) -> Suite:
    """The suite with the request's changes. Raises UsageError."""
    given = {} if request.threads is None else {"threads": request.threads}
    overrides = {**request.overrides, **given}
    suite = reading.load(request.suite, overrides, budget=request.budget, quick=request.quick)
    if not request.checkpoints:
        _check_own_checkpoints(suite)
        return suite
    files = _checkpoints(request.checkpoints, suite)
    fill = request.overrides.get("fill", "real")
    return reading.changed(suite, {"checkpoints": files, "fill": fill})


def _check_own_checkpoints(suite: Suite) -> None:
    """Raises UsageError if a checkpoint that the suite itself names does not fit what it times."""
    if not suite.checkpoints:
        return
    held = {registry.find(name).plain for name in _checkpoints(map(Path, suite.checkpoints.values()), suite)}
    for name, file in suite.checkpoints.items():
        if registry.find(name).plain not in held:
            raise UsageError(f"{file}: does not hold {name}, as `checkpoints` of {suite.name} has it")


def _checkpoints(paths: Iterable[Path], suite: Suite) -> dict[str, str]:
    """Checkpoint files by implementation. Raises UsageError if one does not fit what the suite times."""
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


def as_command(suite: str | None, settings: Mapping[str, Any]) -> list[str]:
    """The command line that measures the same as `bench.run` with these settings.

    suite: its name; None if it has no file, so that the line can continue a record, but not begin one.
    """
    words = ["bench", "run", *([] if suite is None else ["--suite", suite])]
    for key, value in settings.items():
        option = reading.option(key)
        if value is True:
            words.append(option)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += [option, ",".join(map(str, value)) or "init"]
        elif value is not None and value is not False:
            words += [option, str(value)]
    return words


def resume_line(words: Sequence[str], path: Path) -> str:
    """The command line that continues a run which was called so, and is kept at a path."""
    return continued(_without(words, "--out"), {"--resume": as_text(path)})


def continued(words: Sequence[str], options: Mapping[str, str]) -> str:
    """A command line with the options that it lacks; a flag's value is empty."""
    given = {word.partition("=")[0] for word in words}
    lacking = [item for item in options.items() if item[0] not in given]
    return shlex.join([*words, *(word for item in lacking for word in item if word)])


def _without(words: Sequence[str], option: str) -> list[str]:
    """The words without an option and its value."""
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        skip = word == option
    return kept
