"""The blocks of a gate: all pairs of one are forked from one server, and each block has its own."""

from unittest.mock import Mock

import msgspec

from bench.gate import gate as module
from bench.gate.gate import Gate
from bench.gate.noise import NO_LIMITS
from bench.gate.verdicts import Pair
from bench.measure.procedure import Procedure

from ..made_up import CPU, results


class Servers:
    """What hands out fork servers: a number for each block."""

    def __init__(self, procedure, cases, blocks) -> None:
        self.blocks = 0

    def of_a_block(self) -> int:
        self.blocks += 1
        return self.blocks


def test_pairs_of_a_block_share_its_server(monkeypatch):
    forked = []

    class Block:
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
