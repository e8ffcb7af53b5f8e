"""Keeps what is measured: in the result file, among the findings, and for whoever watches."""

from typing import Protocol

from bench.measure.progress import Progress
from bench.records.plan import Plan
from bench.records.reading import Findings
from bench.records.run import Finding, Lost, Sample, Void
from bench.records.solo import Solo
from bench.records.writing import ResultFile
from bench.stats.intervals import Interval
from bench.suites.case import Case


class Observer(Protocol):
    """The events of a running suite, for a display."""

    def solo_begins(self, case: Case, number: int, total: int) -> None: ...
    def solo_ends(self, solo: Solo) -> None: ...
    def block_begins(self, block: int, where: str, rounds: int) -> None: ...
    def progress(self, progress: Progress) -> None: ...
    def sampled(self, sample: Sample) -> None: ...
    def case_lost(self, lost: Lost) -> None: ...
    def cut_off(self, void: Void) -> None: ...
    def ratios(self, ratios: dict[str, Interval | None]) -> None: ...


class Recorder:
    """Takes every record of a run as its measurement finishes."""

    def __init__(self, file: ResultFile, observer: Observer, found: Findings | None = None) -> None:
        self.file = file
        self.observer = observer
        self.found = found or Findings()
        """Everything found so far, an earlier run of the file included."""

    def take(self, record: Finding) -> None:
        """A measurement has finished. Raises NotWritten."""
        self.file.append(record)
        self.found.add(record)
        match record:
            case Solo():
                self.observer.solo_ends(record)
            case Sample():
                self.observer.sampled(record)
            case Lost():
                self.observer.case_lost(record)

    def planned(self, plan: Plan) -> None:
        """Take in the plan of what is measured from now on. Raises NotWritten."""
        self.file.append(plan)

    def void(self, void: Void) -> None:
        """Take back what a job has measured until now. Raises NotWritten."""
        self.file.append(void)
        self.observer.cut_off(void)
        self.found.drop(void)
