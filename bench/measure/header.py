"""The first line of a result file, and whether a run may continue one that has it."""

import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench import workloads
from bench.errors import UsageError
from bench.measure.request import Request
from bench.probes.code import (
    HARNESS,
    digest_of,
    harness_digest,
    measured_commit,
    module_digest,
    source_digest,
)
from bench.probes.environment import command_line
from bench.probes.packages import plug_in
from bench.records import checkpoint as checkpoints
from bench.records.environment import Environment
from bench.records.reading import Results
from bench.records.run import ESTIMATOR, SCHEMA, Header, PlugIn
from bench.records.surroundings import Surroundings
from bench.suites import metrics
from bench.suites.suite import Suite, Timing, Training
from bench.workloads.own_files import is_own_file
from implementations import registry
from implementations.by_configuration import BUILD

TRANSFORMERS = "transformers"
"""The module that computes what is built by configuration."""
BENCH = "bench"
"""Key of the harness among the sources."""


def make_header(
    suite: Suite,
    environment: Environment,
    revisions: dict[str, str] | None = None,
    command: list[str] | None = None,
    surroundings: Surroundings | None = None,
) -> Header:
    """The first line of a result file that is begun now.

    surroundings: what else this machine is at; None for a cluster.
    """
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
        surroundings=surroundings,
        checkpoints={
            name: checkpoints.read(Path(file)).trained(Path(file)) for name, file in suite.checkpoints.items()
        },
        estimator="pairs" if environment.pairing == "duet" else ESTIMATOR,
        sources={} if revisions is not None else sources_of(suite),
        plug_ins=_plug_ins(suite),
    )


def check_shown(request: Request, suite: Suite, environment: Environment) -> None:
    """Let whoever asked see the run while nothing of it is measured. Raises UsageError."""
    if request.check is not None:
        header = make_header(suite, environment, command=request.command)
        request.check(Results(path="", header=header, solos={}, samples=[], lost={}, end=None))


def sources_of(suite: Suite) -> dict[str, str]:
    """Digests of what runs; without those of sources that are not found."""
    found = {BENCH: harness_digest()}
    for name in suite.implementations:
        if (source := source_of(name, suite)) is not None:
            found[name] = source
    return found | sources_of_others(suite)


def source_of(name: str, suite: Suite) -> str | None:
    """Digest of an implementation's source and hyper-parameters; None if its source is not found."""
    if (source := source_digest(name)) is None:
        return None
    task = workloads.load(suite.workload).task(suite.lengths[0]).name
    made_with = registry.find(name).hyperparameters(task, suite.hyperparameters)
    return digest_of(f"{source} {msgspec.json.encode(made_with, order='deterministic').decode()}".encode())


def sources_of_others(suite: Suite) -> dict[str, str]:
    """Digests of a workload and of metrics that are not this package's; a file's stands in the data."""
    digests = {what: module_digest(path.partition(":")[0]) for what, path in _others(suite)}
    return {what: digest for what, digest in digests.items() if digest is not None}


def _others(suite: Suite) -> Iterator[tuple[str, str]]:
    """Workload and metrics that are somebody else's, with their import paths."""
    if suite.workload not in workloads.WORKLOADS and not is_own_file(suite.workload):
        yield f"workload {suite.workload}", workloads.DOOR.path_of(suite.workload)
    for name in suite.metrics:
        yield f"metric {name}", metrics.DOOR.path_of(name)


def _plug_ins(suite: Suite) -> dict[str, PlugIn]:
    """Whose code takes part, beside this package and its adapters, whose libraries the environment names."""
    models = {name: registry.find(name) for name in suite.implementations}
    found = {name: plug_in(BUILD, TRANSFORMERS) for name, item in models.items() if item.path == BUILD}
    found |= {
        name: plug_in(item.path)
        for name, item in models.items()
        if item.plugged_in and item.path.partition(".")[0] not in HARNESS
    }
    return found | {what: plug_in(path) for what, path in _others(suite)}


def check_same_run(
    earlier: Sequence[Results], now: Header, kinds: Sequence[Environment], *, cluster: bool
) -> None:
    """Raises UsageError if what is to be continued was another suite, other data or other machines.

    earlier: the file's runs, by kind of device. kinds: those that would continue it.
    """
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
    changed = [name for name, digest in then.sources.items() if now.sources.get(name, digest) != digest]
    if changed:
        what = " and ".join("this harness" if name == BENCH else name for name in changed)
        raise UsageError(
            f"{path}: was made before {what} changed (another source); start anew, or go back to that version"
        )
    for name, trained in then.checkpoints.items():
        if now.checkpoints.get(name) != trained:
            raise UsageError(
                f"{path}: was made with other weights ({trained.file} has changed since); start anew"
            )
    if len(earlier) > 1 and not cluster:
        raise UsageError(f"{path}: holds {len(earlier)} kinds of device; resume it with --executor ray")
    known = {run.header.environment.machine for run in earlier}
    if not any(kind.machine in known for kind in kinds):
        old, new = then.environment.words, now.environment.words
        raise UsageError(f"{path}: comes from another machine ({old}; this is {new}); start anew")
    _check_clocks(path, then.environment, now.environment)


def _check_clocks(path: str, then: Environment, now: Environment) -> None:
    """Raises UsageError if the GPU's clock was fixed otherwise than it is now."""
    if (fixed := _fixed_mhz(then)) != _fixed_mhz(now):
        option = "without --lock-clocks" if fixed is None else f"with --lock-clocks {fixed}"
        raise UsageError(f"{path}: was made {option}; continue it so, or start anew")


def _fixed_mhz(environment: Environment) -> int | None:
    return None if environment.gpu is None else environment.gpu.locked_sm_mhz


def _grid(suite: Suite) -> Suite:
    """The part of a suite that must be equal for two runs to be one: neither time limits nor training.

    One number of threads for all is the machine's matter.
    """
    return msgspec.structs.replace(
        suite,
        timing=Timing(),
        quick=Timing(),
        training=Training(),
        limits={},
        ignore={},
        description="",
        threads=suite.threads if suite.own_threads != (None,) else None,
    )
