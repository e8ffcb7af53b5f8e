"""Tasks of a Ray cluster: what runs on a node, on the device that its process was given."""

import os
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from bench import workloads
from bench.measure.jobs import Job, perform
from bench.measure.procedure import Procedure
from bench.probes.environment import commit, default_threads, probe_environment
from bench.records.environment import Environment
from bench.records.run import Finding
from bench.version import __version__
from bench.workers.forkserver import ForkServer


class Software(msgspec.Struct, frozen=True):
    """The software that must be the same everywhere, or figures of two nodes are not of one thing."""

    version: str
    commit: str | None
    data: str

    @property
    def words(self) -> str:
        revision = f" (commit {self.commit[:10]})" if self.commit else ""
        return f"seqboat-bench {self.version}{revision} with data: {self.data}"


class Probed(msgspec.Struct, frozen=True):
    """A task's view of the device that it was given."""

    device: str
    environment: Environment
    software: Software
    niceness: int


def carry_out(
    job: Job, procedure: Procedure, checkpoints: Mapping[str, Any], node: str, device: str
) -> Generator[Finding, None, None]:
    """A task: do a job on the device that this process was given.

    Its workers are forked from a template, as on one's own machine. That is safe in a process of Ray, which
    has threads: the template is a fresh program of a single thread, and only it forks. Each job has one of
    its own, so that nothing stays on a node between jobs.
    """
    with (
        TemporaryDirectory(prefix="bench-") as folder,
        ForkServer(procedure.threads, procedure.sources) as server,
    ):
        here = replace(procedure, checkpoints=_unpack(checkpoints, Path(folder)))
        for record in perform(job, here, server):
            yield msgspec.structs.replace(record, node=node, device=device)


def _unpack(checkpoints: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """The driver's checkpoint files, by their names there, as files of this node."""
    import ray

    files: dict[str, Path] = {}
    for number, (name, content) in enumerate(checkpoints.items()):
        files[name] = folder / f"{number}.safetensors"
        files[name].write_bytes(ray.get(content))
    return files


def probe(bundle: dict[str, float], threads: int | None, workload: str) -> Probed:
    """A task: what device this process was given."""
    import ray

    gpus = ray.get_runtime_context().get_accelerator_ids()["GPU"]
    threads = threads or max(1, min(default_threads(), int(bundle.get("CPU", 1))))
    environment = probe_environment("cuda" if gpus else "cpu", threads)
    return Probed(
        device=f"cuda:{gpus[0]}" if gpus else "cpu",
        environment=environment,
        software=software_of(workload),
        niceness=os.getpriority(os.PRIO_PROCESS, 0),
    )


def software_of(workload: str) -> Software:
    return Software(__version__, commit()[0], workloads.load(workload).data())
