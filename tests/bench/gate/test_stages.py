"""The blocks of a gate: what a budget and a dip of memory leave of them, and what is said of it."""

from types import SimpleNamespace
from unittest.mock import Mock

import msgspec
import pytest

from bench.gate import gate as module
from bench.gate.caveats import of_lacking_blocks, of_raw_data
from bench.gate.gate import FIRST_STAGE_SHARE, Gate
from bench.gate.noise import NO_LIMITS
from bench.gate.reports import as_markdown, as_table
from bench.gate.revisions import at
from bench.gate.verdicts import CaseVerdict, Limits, Pair, conclude, judge
from bench.measure import procedure as procedures
from bench.measure.duet import NO_ROOM
from bench.measure.procedure import Procedure
from bench.suites.suite import Timing
from bench.views.tables.formats import render

from ..made_up import CPU, results

LIMITS = Limits(margin=0.01, tolerance=0.03)


class Servers:
    """What hands out fork servers: none are needed."""

    def __init__(self, procedure, cases, blocks) -> None:
        return

    def of_a_block(self) -> None:
        return


@pytest.fixture
def pairs():
    run = results(["transformer", "s4"], [256])
    return [
        Pair(*(msgspec.structs.replace(solo, case=at(solo.case, name)) for name in ("base", "head")))
        for solo in run.solos.values()
    ]


def gate_of(monkeypatch, pairing="turns", budget="1000s", servers=Servers) -> Gate:
    monkeypatch.setattr(module, "Servers", servers)
    run = results(["transformer", "s4"], [256], timing=Timing(budget=budget, max_rounds=9, min_run="1s"))
    environment = msgspec.structs.replace(CPU, threads=1, pairing=pairing)
    return Gate(Procedure(run.header.suite, environment), Mock(), Mock(), NO_LIMITS, 5)


class Played:
    """Blocks that take as long as foretold, times a factor, by a clock of their own."""

    has_room = True

    def __init__(self, gate: Gate, monkeypatch, factor: float) -> None:
        self.gate, self.factor, self.now, self.rounds = gate, factor, 0.0, []
        clock = SimpleNamespace(monotonic=lambda: self.now)
        for each in (module, procedures):
            monkeypatch.setattr(each, "time", clock)
        monkeypatch.setattr(module, "kind_of_block", lambda procedure: self.begin)
        gate.begin = 0.0

    def begin(self, procedure, block, number, alive, design, random, server):
        self.rounds.append(design.rounds)
        self.takes = self.factor * procedure.block_seconds(alive, design.rounds)
        return self

    def run(self):
        self.now += self.takes
        yield from ()


def test_memory_that_dips_while_a_duet_is_timed_is_no_fault_of_heads(monkeypatch, pairs):
    room = [True]

    class Dip(Servers):
        def of_a_block(self) -> None:
            room.clear()

    gate = gate_of(monkeypatch, "duet", servers=Dip)
    monkeypatch.setattr(Procedure, "fits", lambda self, group: bool(room))
    gate.time(pairs, 3)
    assert gate.found.lost == {}
    assert gate.without_room == 3 * len(pairs)
    assert NO_ROOM in gate.observer.notice.call_args[0][0]
    judged = judge(pairs[0], gate.found.samples, gate.found.lost.values(), LIMITS)
    assert (judged.verdict, judged.without_clock) == ("INCONCLUSIVE", False)
    gate.time(pairs, 3)  # A second stage waits for the memory to be back, and ends no gate.


@pytest.mark.parametrize(("pairing", "least"), [("turns", 2), ("duet", 3)])
@pytest.mark.parametrize("factor", [1.0, 1.7])
def test_a_short_budget_leaves_time_for_a_second_stage_and_is_kept(
    monkeypatch, pairs, pairing, least, factor
):
    gate = gate_of(monkeypatch, pairing, budget="400s")
    played = Played(gate, monkeypatch, factor)
    gate.time(pairs, 5, FIRST_STAGE_SHARE)
    first = list(played.rounds)
    assert len(first) == 5 * len(pairs)
    assert played.now <= 400 * FIRST_STAGE_SHARE * (1.3 if factor > 1 else 1.0)
    gate.time(pairs, 10)
    assert len(played.rounds) > len(first), "the second stage has blocks too"
    assert min(played.rounds) >= least
    assert gate.stopped == ("budget" if len(played.rounds) < 15 * len(pairs) else "blocks")
    assert played.now <= 400


@pytest.mark.parametrize(("pairing", "least"), [("turns", 2), ("duet", 3)])
def test_rather_fewer_blocks_than_such_as_a_burst_could_make_worthless(monkeypatch, pairs, pairing, least):
    gate = gate_of(monkeypatch, pairing)
    seconds = sum(gate.procedure.block_seconds([pair.base, pair.other], least) for pair in pairs)
    gate.procedure = Procedure(
        msgspec.structs.replace(gate.procedure.suite, timing=Timing(budget=3.5 * seconds, min_run="1s")),
        gate.procedure.environment,
    )
    played = Played(gate, monkeypatch, 1.0)
    assert gate.time(pairs, 5) == "budget"
    assert played.rounds == [least] * 3 * len(pairs)


def test_fewer_blocks_than_asked_for_and_disturbed_runs_are_told_below_the_table():
    timed = CaseVerdict(model="s4", length=256, verdict="PASSED", reason="", blocks=3)
    decided = msgspec.structs.replace(timed, model="s5", blocks=0, without_clock=True)
    lines = of_lacking_blocks([timed, decided], 5, without_room=2)
    assert lines[0] == "5 blocks were asked for: s4 at 256 has 3; give a longer --budget"
    assert lines[1].startswith("blocks that were left out for want of memory: 2")
    assert of_lacking_blocks([timed], 3, 0) == []
    report = conclude([timed], timed, LIMITS, "a" * 40, "b" * 40)
    report = msgspec.structs.replace(report, timed="timed in turns", caveats=lines)
    for text in (render(as_table(report), "terminal"), as_markdown(report)):
        assert "s4 at 256 has 3" in " ".join(text.split())


def test_raw_data_say_how_quiet_the_machine_was(pairs):
    run = results(["transformer"], [256])
    (solo,) = run.solos.values()
    base, control = (at(solo.case, name) for name in ("base", "control"))
    samples = [
        msgspec.structs.replace(sample, case_id=case.id, disturbed_by="stopped" if case is control else None)
        for case in (base, control)
        for sample in run.samples
    ]
    raw = msgspec.structs.replace(
        run, solos={base.id: msgspec.structs.replace(solo, case=base)}, samples=samples
    )
    assert of_raw_data(raw)[0].startswith(f"{len(samples)} timed runs")
