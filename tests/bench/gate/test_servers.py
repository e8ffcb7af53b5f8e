"""The blocks of a gate: all pairs of one are forked from one server, and each block has its own."""

from unittest.mock import Mock

import msgspec
import pytest

from bench.gate import gate as module
from bench.gate.gate import Gate
from bench.gate.noise import NO_LIMITS
from bench.gate.revisions import at
from bench.gate.rules import Rules
from bench.gate.verdicts import Pair
from bench.measure.procedure import Procedure
from bench.records.solo import Exact

from ..made_up import CPU, results


class Servers:
    """What hands out fork servers: a number for each block."""

    def __init__(self, procedure, cases, blocks) -> None:
        self.blocks = 0

    def of_a_block(self) -> int:
        self.blocks += 1
        return self.blocks


@pytest.mark.parametrize("grown", [True, False])
def test_a_control_is_not_timed_on_if_costs_have_decided(monkeypatch, grown):
    monkeypatch.setattr(module, "Servers", Servers)
    run = results(["transformer"], [256])
    procedure = Procedure(run.header.suite, CPU)
    (solo,) = run.solos.values()
    exact = Exact(parameters=1, flops=100, tensor_bytes=100, operators=1)
    base = msgspec.structs.replace(solo, case=at(solo.case, "base"), exact=exact)
    more = msgspec.structs.replace(exact, flops=200 if grown else 100)
    head = msgspec.structs.replace(base, case=at(solo.case, "head"), exact=more)
    stages: list[list[str]] = []
    gate = Gate(procedure, Mock(), Mock(), NO_LIMITS, blocks=3)
    monkeypatch.setattr(gate, "_decide_absent", Mock())
    monkeypatch.setattr(gate, "pairs", lambda *sides: [Pair(base, head)])
    monkeypatch.setattr(gate, "time", lambda pairs, blocks, share=1.0: stages.append([*map(side, pairs)]))
    monkeypatch.setattr(gate, "end", Mock())
    gate.run(Mock(), Mock())
    assert stages[0] == ["head", "control"]
    assert stages[1:] == ([] if grown else [["head", "control"]])


def test_an_ignored_model_is_no_control(monkeypatch):
    monkeypatch.setattr(module, "Servers", Servers)
    run = results(["transformer"], [256])
    (solo,) = run.solos.values()
    base, head = (msgspec.structs.replace(solo, case=at(solo.case, name)) for name in ("base", "head"))
    stages: list[list[str]] = []
    rules = Rules(NO_LIMITS.default, ignored={"transformer": "it goes away"})
    gate = Gate(Procedure(run.header.suite, CPU), Mock(), Mock(), rules, blocks=3)
    monkeypatch.setattr(gate, "_decide_absent", Mock())
    monkeypatch.setattr(gate, "pairs", lambda *sides: [Pair(base, head)])
    monkeypatch.setattr(gate, "time", lambda pairs, blocks, share=1.0: stages.append([*map(side, pairs)]))
    monkeypatch.setattr(gate, "end", Mock())
    _, control = gate.run(Mock(), Mock())
    assert (stages[0], control) == (["head"], None)


def side(pair: Pair) -> str:
    return pair.other.case.revision or ""


def test_pairs_of_a_block_share_its_server(monkeypatch):
    forked = []

    class Block:
        has_room = True

        def __init__(self, procedure, number, group, solos, design, random, server) -> None:
            forked.append((number, group, server))

        def run(self):
            yield from ()

    monkeypatch.setattr(module, "Servers", Servers)
    monkeypatch.setattr(module, "kind_of_block", lambda procedure: Block)
    run = results(["transformer", "s4"], [256])
    procedure = Procedure(run.header.suite, msgspec.structs.replace(CPU, threads=1, pairing="duet"))
    pairs = [
        Pair(solo, msgspec.structs.replace(solo, case=msgspec.structs.replace(solo.case, revision="head")))
        for solo in run.solos.values()
    ]
    Gate(procedure, Mock(), Mock(), NO_LIMITS, 2).time(pairs, 2)
    assert forked == [(0, 0, 1), (0, 1, 1), (1, 0, 2), (1, 1, 2)]
