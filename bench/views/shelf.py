"""Stored runs as measured cases: one model's figures, each file read once."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from bench.errors import UsageError
from bench.records.reading import Results, read
from bench.records.store import Stored, runs_of
from bench.stats.intervals import Interval, ratio_interval
from bench.suites.case import Case
from bench.system.repository import CommitInfo, Repository
from bench.views.figures import block_times
from bench.views.tables.row import Row
from bench.views.tables.rows import rows_of

Figure = Literal["speed", "step", "memory"]
FIGURES: tuple[Figure, ...] = get_args(Figure)


class OwnBaseline(UsageError):
    """A model whose speed is 1 by definition."""


@dataclass(frozen=True)
class MeasuredCase:
    """A case in one stored run."""

    commit: str
    case: Case
    row: Row
    results: Results
    baseline: str | None

    @property
    def line(self) -> tuple[object, ...]:
        """Key that all points of a line share."""
        return (self.case, self.baseline, self.row.machine, self.row.data)

    def value(self, figure: Figure) -> Interval | None:
        """Figure of the case; None if it was not measured."""
        row = self.row
        if figure == "speed":
            if row.speed_ratio is None:
                return None
            return Interval(row.speed_ratio, row.speed_low, row.speed_high, row.blocks)
        if figure == "step":
            times = block_times(self.results, row.case_id)
            return ratio_interval([math.log(seconds) for seconds in times]) if times else None
        return Interval(row.peak_memory_bytes, None, None, 0) if row.peak_memory_bytes else None


class Shelf:
    """Stored runs, each listed and read once however many models and figures are asked for.

    model: the only one that will be asked for; None for any.
    """

    def __init__(self, model: str | None = None) -> None:
        self.runs = functools.cache(runs_of)
        self.results = functools.cache(read)
        self.commits = functools.cache(_commits)
        self._models = None if model is None else [model]
        self._rows_by_model = functools.cache(self._rows_of)

    def rows(self, path: Path, baseline: str, model: str) -> list[Row]:
        """The model's rows in a run."""
        return self._rows_by_model(path, baseline).get(model, [])

    def _rows_of(self, path: Path, baseline: str) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        for row in rows_of(self.results(path), baseline, self._models):
            found.setdefault(row.model, []).append(row)
        return found

    def cases(
        self, stored: Stored, model: str, figure: Figure, baseline: str | None
    ) -> Iterator[MeasuredCase]:
        """The model's cases that a run has reached. Raises OwnBaseline."""
        results = self.results(stored.path)
        against = baseline or results.header.suite.baseline
        if figure == "speed" and against == model:
            raise OwnBaseline(
                f"{model} is its own baseline in {stored.path}: its speed is 1; "
                "choose --figure step, or another --baseline"
            )
        for row in self.rows(stored.path, against, model):
            if row.case_id in results.solos:
                case = results.solos[row.case_id].case
                yield MeasuredCase(stored.commit, case, row, results, against if figure == "speed" else None)


def _commits(hashes: frozenset[str]) -> dict[str, CommitInfo]:
    """Commits of the repository around this folder; empty if it lacks one."""
    return Repository.commits(Path.cwd(), hashes)
