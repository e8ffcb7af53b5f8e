"""Lines below a gate's table on how well it could measure: disturbed runs, other work, lacking blocks."""

from collections.abc import Sequence

import msgspec

from bench.gate.verdicts import CaseVerdict
from bench.measure.duet import NO_ROOM
from bench.records.reading import Results
from bench.suites.case import Case
from bench.views.tables.company import company_notes, load_lines
from bench.views.tables.disturbed import disturbances, share_of


def of_raw_data(run: Results) -> list[str]:
    """The share of disturbed runs and what became of them; the machine's load, and what else worked."""
    # A control is never alone: what was disturbed of it counts, and has no row of its own.
    known = [sample for sample in run.samples if sample.case_id in run.solos]
    return [
        f"{len(run.samples)} timed runs{share_of(run)}",
        *disturbances(msgspec.structs.replace(run, samples=known), _name),
        *load_lines(run),
        *company_notes(run),
    ]


def of_lacking_blocks(cases: Sequence[CaseVerdict], asked: int, without_room: int) -> list[str]:
    """Cases with fewer blocks than asked for. without_room: blocks that memory was too small for."""
    lacking = [
        f"{case.model} at {case.length} has {case.blocks}"
        for case in cases
        if case.blocks < asked and not case.without_clock
    ]
    lines = []
    if lacking:
        lines.append(f"{asked} blocks were asked for: {', '.join(lacking)}; give a longer --budget")
    if without_room:
        lines.append(f"blocks that were left out for want of memory: {without_room}; {NO_ROOM}")
    return lines


def _name(case: Case) -> str:
    return f"{case.implementation} at {case.length}, {case.revision}"
