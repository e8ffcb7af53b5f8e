"""Decides what is measured next: the solo pass, then blocks, until they are precise, enough or too late."""

import time
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from bench.measure.header import source_of
from bench.measure.imports import plugged_in
from bench.measure.jobs import BlockJob, ImportJob, Job, SoloJob
from bench.measure.panel import Panel
from bench.measure.procedure import BLOCKS_WANTED, Procedure
from bench.measure.progress import Progress
from bench.measure.recorder import Observer, Recorder
from bench.records.plan import Outlook
from bench.records.reading import Findings, Results
from bench.records.run import ESTIMATOR, Finding, Lost, StopReason, Void
from bench.records.solo import Solo
from bench.records.writing import ResultFile
from bench.suites.case import Case
from bench.suites.suite import Suite
from implementations import registry

TRIES = 3
"""A case, or the blocks of one length, that are cut off this many times in a row have failed."""


class Scheduler:
    """The queue of one suite on one kind of device.

    Whoever has a free device asks for the `next_job`, lets `take` have each record, and says whether the job
    was `finished` or `cut_off`. One device and a hundred thus make the same run.
    """

    def __init__(
        self,
        procedure: Procedure,
        file: ResultFile,
        observer: Observer,
        earlier: Results | None = None,
        devices: int = 1,
        sources: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """sources: digests of what the run began with, by implementation; none are not looked at."""
        found = None
        if earlier is not None:
            found = Findings(dict(earlier.solos), list(earlier.samples), dict(earlier.lost))
        self.procedure = procedure
        self.recorder = Recorder(file, observer, found)
        self.observer = observer
        self.devices = devices
        self.sources = sources
        self.begin = time.monotonic()
        suite, voids = procedure.suite, earlier.voids if earlier else []
        estimator = earlier.header.estimator if earlier else ESTIMATOR
        self.cases = suite.cases(procedure.kind)
        self.panels = [
            Panel([case for case in self.cases if case.cell == cell], procedure, self.found, voids, estimator)
            for cell in dict.fromkeys(case.cell for case in self.cases)
        ]
        unknown = [case for case in self.cases if case.id not in self.found.solos]
        self.imports = [ImportJob(cases) for cases in plugged_in(unknown)]
        """Imports of models that may not be there: all are tried before the first one runs."""
        self.alone: set[str] = set()
        """Cases that are in their solo pass now."""
        self.cut_offs: Counter[str] = Counter()
        """Solo passes that were cut off, by case."""

    @property
    def found(self) -> Findings:
        return self.recorder.found

    def next_job(self) -> Job | None:
        """The next job of a free device; None: nothing, or nothing before other jobs have ended."""
        return self.imports.pop(0) if self.imports else self._next_solo() or self._next_block()

    def take(self, record: Finding) -> None:
        """A measurement has finished."""
        self.recorder.take(record)

    def finished(self, job: Job) -> None:
        """A job was done to its end."""
        if isinstance(job, ImportJob):
            return
        if isinstance(job, SoloJob):
            self.alone.remove(job.case.id)
            return
        panel = self._panel(job)
        panel.block_finished(job.number)
        self.observer.ratios(panel.ratios)

    def cut_off(self, job: Job, node: str, device: str, reason: str) -> None:
        """A job ended with its device: what it measured does not count, and it is done again elsewhere; an
        import by the solo pass."""
        if isinstance(job, ImportJob):
            return
        ids, block = ([job.case.id], None) if isinstance(job, SoloJob) else (job.case_ids, job.number)
        void = Void(case_ids=ids, block=block, reason=reason, node=node, device=device)
        self.recorder.void(void)
        if isinstance(job, SoloJob):
            self.alone.remove(job.case.id)
            self._count_alone(job.case, void)
        else:
            panel = self._panel(job)
            panel.block_cut_off(job.number)
            self._count_block(panel, void)

    @property
    def reason(self) -> StopReason:
        """Why there is nothing more to do."""
        if not all(panel.ran_alone for panel in self.panels):
            return "devices"
        if not any(panel.can_be_timed for panel in self.panels):
            return "failed"
        still_open = [panel for panel in self.panels if not panel.is_finished]
        if still_open:
            left = self.procedure.seconds_left(self.begin)
            return "budget" if all(panel.is_out_of_time(left) for panel in still_open) else "devices"
        return "precise" if all(panel.is_precise for panel in self.panels) else "blocks"

    @property
    def outlook(self) -> Outlook | None:
        """Gain of more time for the cell that needs it most; None if nothing is known of it."""
        outlooks = [panel.outlook for panel in self.panels if panel.ran_alone and panel.can_be_timed]
        return max(filter(None, outlooks), key=lambda found: found.need, default=None)

    def _next_solo(self) -> SoloJob | None:
        """The next case to run alone. Plug-ins come first: they fail sooner than others."""
        cases = sorted(self.cases, key=lambda case: not registry.find(case.implementation).plugged_in)
        for number, case in enumerate(cases, 1):
            if case.id not in self.found.solos and case.id not in self.alone:
                self.alone.add(case.id)
                self.observer.solo_begins(case, number, len(self.cases))
                return SoloJob(case)
        return None

    def _next_block(self) -> BlockJob | None:
        """A block of the cell that has the fewest."""
        self._lose_what_was_edited()
        left = self.procedure.seconds_left(self.begin)
        still_open = [panel for panel in self.panels if panel.ran_alone and not panel.is_finished]
        free = [panel for panel in still_open if not panel.has_enough(left)]
        if not free:
            return None
        panel = min(free, key=lambda panel: panel.started)
        # Of the time left, what the blocks of one cell may take together; each fits into the time left.
        share = min(self.devices / len(still_open), BLOCKS_WANTED)
        job, plan = panel.begin_block(left * share, left)
        if plan is not None:
            self.recorder.planned(plan)
        where = self.procedure.suite.where(panel.cases[0], self.procedure.kind)
        self.observer.progress(self._progress(job.design.rounds))
        self.observer.block_begins(job.number, where, job.design.rounds)
        return job

    def _lose_what_was_edited(self) -> None:
        """A row is of one program, and each block imports the models anew."""
        suite, panels = self.procedure.suite, [panel for panel in self.panels if panel.ran_alone]
        alive = [(panel, solo) for panel in panels for solo in panel.alive]
        names = {solo.case.implementation for _, solo in alive} & self.sources.keys()
        edited = {name for name in names if _source_now(name, suite) != self.sources[name]}
        for panel, solo in alive:
            if solo.case.implementation in edited:
                reason = "its source was edited while the run continued"
                lost = Lost(case_id=solo.case.id, block=panel.started, status="error", reason=reason)
                self.take(lost)

    def _progress(self, rounds: int) -> Progress:
        """The run's progress; `rounds` are those of the block that is begun now."""
        begun = [panel for panel in self.panels if panel.ran_alone]
        still_open = [panel for panel in begun if not panel.is_finished]
        share = self.devices / max(1, len(still_open))
        left = max(0.0, self.procedure.seconds_left(self.begin)) * min(1.0, share)
        to_come, seconds = 0, 0.0
        for panel in still_open:
            takes = panel.seconds_per_block(rounds)
            count = panel.blocks_to_come(left, takes)
            to_come, seconds = to_come + count, seconds + count * takes
        done = sum(panel.blocks for panel in begun)
        widths = [panel.widest for panel in begun if panel.can_be_timed]
        known = [width for width in widths if width is not None]
        return Progress(
            done=done,
            total=done + to_come,
            seconds_left=seconds / self.devices,
            widest=max(known) if known and len(known) == len(widths) else None,
        )

    def _count_alone(self, case: Case, void: Void) -> None:
        self.cut_offs[case.id] += 1
        if self.cut_offs[case.id] == TRIES:
            reason = f"was cut off {TRIES} times, last: {void.reason}"
            self.take(Solo(case=case, status="crashed", reason=reason, node=void.node, device=void.device))

    def _count_block(self, panel: Panel, void: Void) -> None:
        if panel.cut_offs != TRIES:
            return
        reason = f"{TRIES} blocks in a row were cut off, last: {void.reason}"
        for solo in panel.alive:
            self.take(
                Lost(
                    case_id=solo.case.id,
                    block=panel.next_block - 1,
                    status="crashed",
                    reason=reason,
                    node=void.node,
                    device=void.device,
                )
            )

    def _panel(self, job: BlockJob) -> Panel:
        return next(panel for panel in self.panels if job.reference in panel.ids)


def _source_now(name: str, suite: Suite) -> str | None:
    """Digest of an implementation's source; None if it can't be read, as while an editor writes it."""
    try:
        return source_of(name, suite)
    except OSError:
        return None
