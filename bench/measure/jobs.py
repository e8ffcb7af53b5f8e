"""The jobs of a device: the import of a model, a case alone, or a block of cases side by side."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from bench.measure.duet import kind_of_block
from bench.measure.imports import failed_imports
from bench.measure.procedure import Procedure
from bench.measure.solo import measure_solo
from bench.records.run import Finding, Lost, Sample
from bench.records.solo import Solo
from bench.stats.allocation import Design
from bench.suites.case import Case
from bench.workers.forkserver import ForkServer


@dataclass(frozen=True)
class ImportJob:
    """The import of one model, for all of its cases."""

    cases: list[Case]


@dataclass(frozen=True)
class SoloJob:
    """One case alone."""

    case: Case


@dataclass(frozen=True)
class BlockJob:
    """One block of one length: all that is compared with each other, so it stays on one device."""

    number: int
    solos: list[Solo]
    reference: str
    """Id of the case that is resident in every group."""
    design: Design

    @property
    def case_ids(self) -> list[str]:
        return [solo.case.id for solo in self.solos]


Job = ImportJob | SoloJob | BlockJob


def perform(job: Job, procedure: Procedure, server: ForkServer) -> Generator[Finding, None, None]:
    """Do a job on this machine. Every record comes as its measurement finishes.

    server: where its processes are forked; what was measured before a block may have been forked there too.
    """
    if isinstance(job, ImportJob):
        yield from failed_imports(job.cases, procedure, server)
    elif isinstance(job, SoloJob):
        yield measure_solo(job.case, procedure, server)
    else:
        yield from _block(job, procedure, server)


def _block(job: BlockJob, procedure: Procedure, server: ForkServer) -> Generator[Sample | Lost, None, None]:
    """A block in as few groups as the memory of this machine allows."""
    random = np.random.default_rng()
    reference = next(solo for solo in job.solos if solo.case.id == job.reference)
    lost: set[str] = set()
    for number, group in enumerate(procedure.groups(job.solos, reference)):
        alive = [solo for solo in group if solo.case.id not in lost]
        block = kind_of_block(procedure)(procedure, job.number, number, alive, job.design, random, server)
        with closing(block.run()) as records:
            for record in records:
                if isinstance(record, Lost):
                    lost.add(record.case_id)
                yield record
