"""Cases of a gate that are timed together: a base with what is compared to it, itself included."""

import math
from collections.abc import Iterable

import msgspec

from bench.gate.revisions import at
from bench.gate.verdicts import REVISIONS, Pair
from bench.measure.procedure import Procedure
from bench.records.solo import Solo


def control_of(pairs: Iterable[Pair]) -> Pair | None:
    """The fastest case's base against itself: any difference there is noise."""
    bases = [pair.base for pair in pairs]
    if not bases:
        return None
    quickest = min(bases, key=lambda solo: solo.step_seconds or math.inf)
    return against_itself(quickest, REVISIONS[2])


def against_itself(solo: Solo, name: str) -> Pair:
    """A case and, as a revision of that name, the same again."""
    return Pair(solo, msgspec.structs.replace(solo, case=at(solo.case, name)))


def groups_of(pairs: Iterable[Pair], procedure: Procedure) -> list[list[Solo]]:
    """In turns, a base with all that is compared to it; in a duet, with each alone."""
    if procedure.is_duet:
        return [[pair.base, pair.other] for pair in pairs]
    groups: dict[str, list[Solo]] = {}
    for pair in pairs:
        groups.setdefault(pair.base.case.id, [pair.base]).append(pair.other)
    return list(groups.values())
