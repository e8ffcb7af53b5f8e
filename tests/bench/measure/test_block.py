"""Disturbed runs in a block: repeated at once, within limits, and all of them kept."""

import contextlib

import msgspec
import numpy as np
import pytest

from bench.measure.block import TRIES, Block
from bench.measure.procedure import Procedure
from bench.records.conditions import Conditions
from bench.records.solo import Solo
from bench.stats.allocation import Design
from bench.stats.ratios import block_values
from bench.suites import reading as suites
from bench.workers.messages import Timed

from ..made_up import CPU

SUITE = suites.load("ci")
CALM = Conditions(wall_seconds=1.0)
STOPPED = Conditions(wall_seconds=8.0, stops=1)


class Played(Block):
    """A block whose runs are told beforehand: 8 s if something stopped it, else 1 s."""

    def __init__(self, disturbed: list[bool], rounds: int) -> None:
        cases = [case for case in SUITE.cases("cpu") if case.implementation in ("transformer", "seqboat")]
        solos = [Solo(case=case, status="ok", step_seconds=0.1) for case in cases]
        super().__init__(Procedure(SUITE, CPU), 0, 0, solos, Design(rounds), np.random.default_rng(0))
        self.resident = False
        self.disturbed = iter(disturbed)

    def _time(self, solo: Solo) -> Timed:
        if next(self.disturbed, False):
            return Timed(seconds=8.0, activation=None, conditions=STOPPED)
        return Timed(seconds=1.0, activation=None, conditions=CALM)


def carried_out(disturbed: list[bool], rounds: int = 2):
    with contextlib.closing(Played(disturbed, rounds).run()) as records:
        return list(records)


def test_a_disturbed_run_is_repeated_at_once_and_kept():
    first, again, *rest = carried_out([True])
    assert (first.case_id, first.position, first.attempt) == (again.case_id, again.position, 0)
    assert again.attempt == 1
    assert first.disturbed_by == "its process was stopped and continued"
    assert [sample.disturbed_by for sample in (again, *rest)] == [None] * 8
    names = {sample.case_id for sample in rest}
    assert block_values([first, again, *rest], *names) == [0.0]


def test_a_visit_is_made_three_times_at_most():
    samples = carried_out([True] * TRIES)
    assert [sample.attempt for sample in samples[: TRIES + 1]] == [0, 1, 2, 0]
    assert len({sample.position for sample in samples[:TRIES]}) == 1


@pytest.mark.parametrize(("rounds", "most"), [(1, 4 + 2), (4, 16 + 8)])
def test_a_machine_that_is_never_quiet_costs_half_as_much_again(rounds, most):
    samples = carried_out([True] * 1000, rounds)
    assert len(samples) == most
    assert {(s.round, s.position) for s in samples} == {(r, p) for r in range(rounds) for p in range(4)}
    names = {sample.case_id for sample in samples}
    assert block_values(samples, *names) == [0.0]


def test_without_conditions_nothing_is_repeated():
    block = Played([], 1)
    block._time = lambda solo: Timed(seconds=8.0, activation=None)
    with contextlib.closing(block.run()) as records:
        samples = [msgspec.structs.replace(record, activation=None) for record in records]
    assert [sample.attempt for sample in samples] == [0] * 4
