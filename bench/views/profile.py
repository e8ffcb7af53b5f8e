"""Profiles in the terminal: trees of stages, memory over the step, and what the profiling itself cost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import msgspec

from bench.records.profile import Node, Profile, tree
from bench.records.surroundings import remarks
from bench.text.units import (
    format_bytes,
    format_count,
    format_duration,
    format_percent,
    format_ratio,
    significant,
)
from bench.views.tables.choice import chosen_rows
from bench.views.tables.grid import MISSING, Cell, Grid, Head, Section, Tabular
from bench.views.tables.titles import title_of

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 72


@dataclass(frozen=True)
class Profiles(Tabular):
    """Trees of stages, one below the other; what memory, ceilings and overhead are stands below."""

    profiles: Sequence[Profile]
    rows: Sequence[tuple[Profile, Node]]

    @classmethod
    def of(cls, profiles: Sequence[Profile], wanted: Sequence[str] | None = None) -> "Profiles":
        """All stages of profiles, or those of some names. Raises UsageError for one that is not there."""
        rows = [(profile, node) for profile in profiles for node in tree(profile)]
        return cls(profiles, chosen_rows(rows, wanted, lambda row: [row[1].name]))

    @property
    def above(self) -> list[str]:
        titles = [f"{profile.case.id} on {profile.environment.words}" for profile in self.profiles]
        return [*titles, *_compared(self.profiles)]

    @property
    def below(self) -> list[str]:
        shared = [*dict.fromkeys(line for profile in self.profiles for line in _ceilings(profile)), ROOFLINE]
        own = [
            f"{self._title(profile)}{line}"
            for profile in self.profiles
            for line in (*_memory(profile), *_below(profile))
        ]
        return [*own, *shared]

    def _title(self, profile: Profile) -> str:
        return f"{title_of(profile.case.implementation)}: " if len(self.profiles) > 1 else ""

    def grids(self, digits: int | None = None) -> list[Grid]:
        """One grid, a section for each profile."""
        parts = groupby(self.rows, key=lambda row: id(row[0]))
        sections = []
        for _, part in parts:
            rows = list(part)
            title = title_of(rows[0][0].case.implementation) if len(self.profiles) > 1 else None
            sections.append(Section(title, [_cells(*row, digits) for row in rows]))
        return [Grid(HEADS, sections)]

    def objects(self, rows: Sequence[tuple[Profile, Node]]) -> list[dict[str, Any]]:
        return [_fields(*row) for row in rows]

    def record(self, objects: list[dict[str, Any]]) -> object:
        """The profiles with every field; the table's rows are their `tree`."""
        names = [profile.case.id for profile in self.profiles]
        if len(names) == 1:
            return msgspec.to_builtins(self.profiles[0]) | {"tree": objects}
        return {"profiles": msgspec.to_builtins(self.profiles), "tree": objects}


HEADS = (
    Head("Stage", "left", label=True, fields=("stage", "depth", "model")),
    Head("Forward", fields=("forward_seconds",), most_first=True),
    Head("Backward", fields=("backward_seconds",), most_first=True),
    Head("Share", fields=("share",), most_first=True),
    Head("Calls", drop=3, fields=("calls",), most_first=True),
    Head("FLOPs", drop=1, fields=("flops",), most_first=True),
    Head("Bytes moved", drop=2, fields=("bytes",), most_first=True),
    Head("Roofline", fields=("roofline",)),
    Head("Peak memory", fields=("peak_bytes",), most_first=True),
)
ROOFLINE = (
    "Roofline: the least time that the stage's FLOPs and bytes need under both ceilings, over its time; "
    "above 100% if a cache held what was moved"
)


def _fields(profile: Profile, node: Node) -> dict[str, Any]:
    total, whole = node.total, _whole(profile)
    return {
        "stage": node.name,
        "depth": node.depth,
        "model": profile.case.implementation,
        "forward_seconds": node.forward.seconds,
        "backward_seconds": node.backward.seconds,
        "share": total.seconds / whole if whole else None,
        "calls": node.calls,
        "flops": total.flops,
        "bytes": total.bytes,
        "roofline": profile.ideal_seconds(total) / total.seconds if total.seconds and total.bytes else None,
        "peak_bytes": node.peak_bytes,
    }


def _whole(profile: Profile) -> float:
    """Seconds of all stages."""
    return sum(stage.forward.seconds + stage.backward.seconds for stage in profile.stages)


def _cells(profile: Profile, node: Node, digits: int | None) -> list[Cell]:
    found = _fields(profile, node)
    # Box-drawing bars: leading blanks would be stripped.
    name = "│ " * max(0, node.depth - 1) + ("├ " if node.depth else "") + node.name
    percent = "{:.0%}".format if digits is None else partial(format_percent, digits=digits)
    shown: list[tuple[str, Callable[[Any], str]]] = [
        ("forward_seconds", partial(_duration, digits=digits)),
        ("backward_seconds", partial(_duration, digits=digits)),
        ("share", partial(format_percent, digits=digits)),
        ("calls", str),
        ("flops", partial(format_count, digits=digits)),
        ("bytes", partial(format_bytes, digits=digits)),
        ("roofline", percent),
        ("peak_bytes", partial(format_bytes, digits=digits)),
    ]
    return [
        Cell(name, name=node.name),
        *(
            Cell(write(found[field]), value=found[field]) if found[field] else Cell(MISSING)
            for field, write in shown
        ),
    ]


def _compared(profiles: Sequence[Profile]) -> Iterator[str]:
    """Each of several steps against the first one's."""
    for profile in profiles[1:]:
        one, other = title_of(profile.case.implementation), title_of(profiles[0].case.implementation)
        times = profiles[0].plain_seconds / profile.plain_seconds
        memory = _peak(profile) / max(_peak(profiles[0]), 1)
        yield (
            f"{one}: a step is {format_ratio(times)} times as fast as that of {other}, at {memory:.0%} of "
            f"its peak memory ({format_duration(profile.plain_seconds)} against "
            f"{format_duration(profiles[0].plain_seconds)}, in turns: bench run gives an interval)"
        )


def _peak(profile: Profile) -> int:
    return max((live for _, live, _ in profile.timeline), default=0)


def _duration(seconds: float, digits: int | None) -> str:
    if seconds >= 1:
        return format_duration(seconds, digits)
    return f"{significant(seconds * 1e3, 3 if digits is None else digits)} ms"


def _memory(profile: Profile) -> Iterator[str]:
    """Live tensor bytes over the step, as bars from zero to the peak."""
    if not profile.timeline:
        return
    peak = max(profile.timeline, key=lambda point: point[1])
    columns = [0] * WIDTH
    for place, live, _ in profile.timeline:
        column = min(WIDTH - 1, int(place * WIDTH))
        columns[column] = max(columns[column], live)
    for number in range(1, WIDTH):
        # A step of few operators leaves columns empty; memory stays as it was.
        columns[number] = columns[number] or columns[number - 1]
    top = max(peak[1], 1)
    yield "".join(BARS[round(live / top * (len(BARS) - 1))] for live in columns)
    yield f"Live tensor bytes over the step's operators; the peak, {format_bytes(peak[1])}, in {peak[2]}"


def _ceilings(profile: Profile) -> Iterator[str]:
    ceilings = profile.ceilings
    yield (
        f"Ceilings measured here: {ceilings.flops_per_second / 1e9:,.4g} GFLOP/s (matrix product "
        f"{ceilings.matrix}), {format_bytes(ceilings.bytes_per_second)}/s (copy of {ceilings.copy})"
    )


def _below(profile: Profile) -> Iterator[str]:
    if profile.flops_from != profile.case.implementation:
        yield (
            f"FLOPs, bytes and memory are those of {profile.flops_from}: the fused form hides them in its "
            "Triton kernels, and may move fewer bytes"
        )
    for remark in remarks(profile.surroundings) if profile.surroundings else ():
        yield f"{remark.found}: neither times nor ceilings are those of a quiet machine"
    yield (
        f"Overhead: a step takes {format_duration(profile.plain_seconds)} plain, "
        f"{format_duration(profile.named_seconds)} with its stages named "
        f"({_more(profile.named_seconds, profile.plain_seconds)}), "
        f"{format_duration(profile.profiled_seconds)} under the profiler "
        f"({_more(profile.profiled_seconds, profile.plain_seconds)}); stage times are of the last"
    )


def _more(time: float, plain: float) -> str:
    return f"{time / plain - 1:+.1%}"
