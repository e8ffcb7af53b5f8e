"""Noise of a machine: differences that it shows between identical code."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from scipy import special

from bench.errors import UsageError
from bench.gate.caveats import of_raw_data
from bench.gate.gate import Gate
from bench.gate.regress import gate_suite
from bench.gate.rules import Rules
from bench.gate.verdicts import Limits, Pair
from bench.measure.display import open_display
from bench.measure.header import make_header
from bench.measure.procedure import Procedure
from bench.probes.surroundings import read_surroundings
from bench.records.environment import Environment, Pairing
from bench.records.reading import read
from bench.records.writing import ResultFile
from bench.stats.intervals import MIN_BLOCKS, ratio_interval, smallest_difference, upper_bound
from bench.suites.case import Case
from bench.system.signals import termination_interrupts
from bench.workers.source import CodeSource

NO_LIMITS = Rules(Limits(margin=0.0, tolerance=0.0))


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

    pairing: Pairing = "turns"
    threads: int = 1
    """Threads of each side, in a duet."""
    blocks: int
    seconds: float = 0.0
    """Seconds that all blocks took."""
    floor: float
    """Standard deviation of a block's log ratio, over all cases."""
    smallest_difference: float
    """Smallest slowdown beyond the margin that `blocks` detect in 90% of gates, with 99% confidence."""
    smallest_tolerance: float
    """Smallest tolerance with which a gate passes identical code."""
    cases: list[CaseNoise]
    caveats: list[str] = []
    """Disturbed runs, and other work on the machine meanwhile."""

    @property
    def cost(self) -> float:
        """Variance of a block times the seconds that it takes: what precision costs, whatever a block is."""
        return self.floor**2 * self.seconds / self.blocks

    @property
    def degrees(self) -> float:
        """Degrees of freedom behind the noise floor (Satterthwaite): fewer, the more unlike the cases are."""
        variances = [case.deviation**2 for case in self.cases]
        squares = sum(variance**2 for variance in variances)
        alike = sum(variances) ** 2 / squares if squares else len(variances)
        return alike * (self.blocks - 1)


def measure_noise(
    name: str,
    overrides: Mapping[str, Any],
    budget: str,
    blocks: int,
    files: Mapping[Path, Environment],
    sources: Mapping[str, CodeSource] = MappingProxyType({}),
) -> list[Noise]:
    """Measure every case of a suite against itself, in blocks like a gate's.

    name, overrides, budget: the suite's. files: result files, and the pairing and threads of each; a block of
    one follows a block of the other, so that all see the same machine. sources: other code to time against
    the base, by the name of its revision. Raises UsageError if nothing ran often enough.
    """
    suite = gate_suite(name, dict(overrides), budget)
    with (
        termination_interrupts() as interruption,
        open_display() as display,
        ExitStack() as stack,
    ):
        gates = []
        for path, environment in files.items():
            file = stack.enter_context(ResultFile(path, interruption.deferred))
            file.append(make_header(suite, environment, {}, surroundings=read_surroundings()))
            procedure = Procedure(suite, environment, sources=sources)
            gates.append(stack.enter_context(Gate(procedure, file, display, NO_LIMITS, blocks)))
            gates[-1].share = 1 / len(files)
        pairs = [gate.with_itself() for gate in gates]
        everything = [[*own, *(each.against(name) for name in sources for each in own)] for own in pairs]
        timed = (gate.each_block(own, blocks) for gate, own in zip(gates, everything, strict=True))
        for _ in zip_longest(*timed):
            pass
        return [_noise(gate, own) for gate, own in zip(gates, pairs, strict=True)]


def _noise(gate: Gate, pairs: Sequence[Pair]) -> Noise:
    gate.end(gate.stopped)
    environment = gate.procedure.environment
    return msgspec.structs.replace(
        noise_of({pair.base.case: pair.slowdowns(gate.found.samples) for pair in pairs}),
        pairing=environment.pairing,
        threads=environment.threads,
        seconds=gate.timed_seconds,
        caveats=of_raw_data(read(gate.recorder.file.path)),
    )


def recommended(noises: Sequence[Noise]) -> tuple[Noise, str]:
    """The noise whose pairing tells more in the same time, and in words how much more."""
    best = min(noises, key=lambda noise: noise.cost)
    others = [noise for noise in noises if noise is not best]
    if not others:
        return best, f"--pairing {best.pairing}: no other is possible here"
    (other,) = others
    share = best.cost / other.cost if other.cost else 1.0
    words = f"--pairing {best.pairing}: as narrow an interval takes {share:.0%} of the time"
    # The larger of the variances of two normal samples is so many times the other, by chance, once in twenty
    # times: either may have been the better one.
    by_chance = float(special.fdtri(other.degrees, best.degrees, 0.975))
    if share * by_chance > 1:
        words += ", which so few blocks can't tell from chance"
    return best, words


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
