"""Noise of a machine: differences that it shows between identical code."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.errors import UsageError
from bench.gate.gate import Gate
from bench.gate.regress import gate_suite
from bench.gate.rules import Rules
from bench.gate.verdicts import Limits
from bench.measure.display import open_display
from bench.measure.header import make_header
from bench.measure.procedure import Procedure
from bench.records.run import Environment
from bench.records.writing import ResultFile
from bench.stats.intervals import MIN_BLOCKS, ratio_interval, smallest_difference, upper_bound
from bench.suites.case import Case
from bench.system.signals import termination_interrupts


class CaseNoise(msgspec.Struct, frozen=True, kw_only=True):
    """One case against itself."""

    model: str
    length: int
    ratio: float
    low: float | None
    high: float | None
    deviation: float
    """Standard deviation of the log ratio between two processes that run the same code."""


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """Noise of the machine, over all cases."""

    blocks: int
    floor: float
    """Standard deviation of a block's log ratio, over all cases."""
    smallest_difference: float
    """Smallest slowdown that `blocks` blocks detect in 90% of all gates, with 99% confidence."""
    smallest_tolerance: float
    """Smallest tolerance with which a gate passes identical code."""
    cases: list[CaseNoise]


def measure_noise(
    name: str,
    overrides: Mapping[str, Any],
    budget: str,
    blocks: int,
    out: Path,
    environment: Environment,
) -> Noise:
    """Measure every case of a suite against itself, in blocks like a gate's.

    name, overrides, budget: the suite's. out: the result file. Raises UsageError if nothing ran often enough.
    """
    suite = gate_suite(name, dict(overrides), budget)
    procedure, rules = Procedure(suite, environment), Rules(Limits(margin=0.0, tolerance=0.0))
    with (
        termination_interrupts() as interruption,
        ResultFile(out, interruption.deferred) as file,
        open_display() as display,
    ):
        file.append(make_header(suite, environment, {}))
        with Gate(procedure, file, display, rules, blocks) as gate:
            return noise_of(gate.against_itself())


def noise_of(values: dict[Case, list[float]]) -> Noise:
    """Noise from cases' block values. Raises UsageError if none has enough blocks."""
    enough = {case: found for case, found in values.items() if len(found) >= MIN_BLOCKS}
    if not enough:
        raise UsageError(
            f"no case ran for {MIN_BLOCKS} blocks, so there is no noise to tell; give a longer --budget"
        )
    blocks = min(len(found) for found in enough.values())
    floor = math.sqrt(np.mean([np.var(found, ddof=1) for found in enough.values()]))
    return Noise(
        blocks=blocks,
        floor=floor,
        smallest_difference=math.expm1(smallest_difference(floor, blocks)),
        smallest_tolerance=math.expm1(max(upper_bound(found) for found in enough.values())),
        cases=[_case_noise(case, found) for case, found in enough.items()],
    )


def _case_noise(case: Case, values: Sequence[float]) -> CaseNoise:
    interval = ratio_interval(values)
    return CaseNoise(
        model=case.implementation,
        length=case.length,
        ratio=interval.ratio,
        low=interval.low,
        high=interval.high,
        deviation=float(np.std(values, ddof=1)),
    )
