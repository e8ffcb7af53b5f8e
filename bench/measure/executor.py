"""Carries out a run's jobs: on this machine one after the other, or on the devices of a cluster."""

from collections.abc import Sequence
from contextlib import closing
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from bench.measure.jobs import BlockJob, Job, perform
from bench.measure.scheduler import Scheduler
from bench.measure.servers import Servers
from bench.records.environment import Environment
from bench.records.plan import Outlook
from bench.records.run import Device, StopReason
from bench.workers.forkserver import ForkServer


class Executor(Protocol):
    """Devices, of one kind or several, that do what schedulers want done."""

    @property
    def devices(self) -> Sequence[Device]:
        """The devices of a cluster; empty for this machine's one."""

    @property
    def notices(self) -> Sequence[str]:
        """Devices that take no part, and why."""

    @property
    def kinds(self) -> list[Environment]:
        """One environment for each kind of device; there is a scheduler for each."""

    def count(self, kind: Environment) -> int:
        """Number of devices of a kind."""

    def carry_out(self, schedulers: Sequence[Scheduler]) -> None:
        """Do jobs until no scheduler has another."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Local:
    """This machine's device, from this process."""

    devices: Sequence[Device] = ()
    notices: Sequence[str] = ()

    def __init__(self, environment: Environment) -> None:
        self.kinds = [environment]

    def count(self, kind: Environment) -> int:
        return 1

    def carry_out(self, schedulers: Sequence[Scheduler]) -> None:
        for scheduler in schedulers:
            procedure = scheduler.procedure
            with Servers(procedure, scheduler.cases, procedure.suite.timing.min_blocks) as servers:
                while (job := scheduler.next_job()) is not None:
                    server = servers.of_a_block() if isinstance(job, BlockJob) else servers.alone()
                    _do(job, scheduler, server)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


def _do(job: Job, scheduler: Scheduler, server: ForkServer) -> None:
    with closing(perform(job, scheduler.procedure, server)) as records:
        for record in records:
            scheduler.take(record)
    scheduler.finished(job)


class Stopped(NamedTuple):
    """Why there is nothing more to do, and what more time would give."""

    reason: StopReason
    outlook: Outlook | None = None


_FROM_WORST: tuple[StopReason, ...] = ("failed", "devices", "budget", "blocks", "precise")


def carry_out(executor: Executor, schedulers: Sequence[Scheduler]) -> Stopped:
    """Measure everything; returns why it stopped, with several kinds of device the worst reason."""
    executor.carry_out(schedulers)
    outlooks = [scheduler.outlook for scheduler in schedulers]
    return Stopped(
        min((scheduler.reason for scheduler in schedulers), key=_FROM_WORST.index),
        max(filter(None, outlooks), key=lambda found: found.need, default=None),
    )
