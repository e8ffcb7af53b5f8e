"""Changes of level in a series over commits, each with its cause.

*code*: this model moved alone. *machine*: most models moved together, the baseline too. *versions*: torch, a
library, Python, a driver or the harness became another one there. *noise*: a single run is less sure than the
change is large.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from bench.records.environment import Environment
from bench.records.reading import Results
from bench.records.solo import MEMORY_KIND
from bench.stats.levels import MIN_LEVEL, change_points, level_ratio, levels
from bench.stats.ratios import block_step_seconds
from bench.suites.case import Case

Cause = Literal["code", "machine", "versions", "noise"]

MOVED = 0.5
"""Share of a model's own move, on the log scale, from which another one moved along."""


class LevelChange(msgspec.Struct, frozen=True, kw_only=True):
    """A new level, as a multiple of the one before it."""

    commit: str
    """The first commit at the new level."""
    after: str
    """The last one at the old level."""
    ratio: float
    low: float | None
    """Lower end of the 95% interval. The same values chose the place, so it is somewhat too narrow."""
    high: float | None
    cause: Cause
    why: str
    """Reason for the cause, in words."""


@dataclass(frozen=True)
class Series:
    """One case on one machine: a value for each commit, and the run that it is from."""

    case: Case
    figure: Literal["speed", "step", "memory"]
    baseline: str
    commits: Sequence[str]
    values: Sequence[float]
    half_widths: Sequence[float | None]
    """Half-widths of the runs' own 95% intervals, on the log scale."""
    runs: Sequence[Results]


def changes_of(series: Series) -> list[LevelChange]:
    """Every change of level, the oldest first."""
    found = change_points(series.values)
    pieces = levels(series.values, found)
    edges = [0, *found, len(series.values)]
    changes = []
    for number, index in enumerate(found):
        ratio = level_ratio(pieces[number], pieces[number + 1])
        before, after = slice(edges[number], index), slice(index, edges[number + 2])
        cause, why = _cause(series, before, after, math.log(ratio.ratio))
        changes.append(
            LevelChange(
                commit=series.commits[index],
                after=series.commits[index - 1],
                ratio=ratio.ratio,
                low=ratio.low,
                high=ratio.high,
                cause=cause,
                why=why,
            )
        )
    return changes


def _cause(series: Series, before: slice, after: slice, change: float) -> tuple[Cause, str]:
    widths = [
        width for width in (*series.half_widths[before], *series.half_widths[after]) if width is not None
    ]
    if widths and statistics.median(widths) > abs(change):
        return "noise", f"a single run is uncertain by {math.expm1(statistics.median(widths)):.0%}"
    last, first = series.runs[before][-1].header.environment, series.runs[after][0].header.environment
    changed = list(versions(last, first))
    if changed:
        return "versions", "; ".join(changed)
    moves = _moves(series, before, after)
    own = moves.pop(series.case.implementation, 0.0)
    if not moves:
        return "code", "no other model was measured"
    if _along(own, own, change):
        along = sorted(model for model, move in moves.items() if _along(move, own, change))
        of_all = f"{len(along)} of {len(moves)} other models moved along"
        together = 2 * len(along) >= len(moves) and (series.baseline in (*along, series.case.implementation))
        return ("machine" if together else "code"), of_all
    if series.baseline in moves and _along(moves[series.baseline], moves[series.baseline], change):
        return "code", f"the step of the baseline, {series.baseline}, moved"
    return "code", "no other model moved along"


def _along(move: float, own: float, change: float) -> bool:
    """Whether a model moved as this one did, and by a share of the change that counts."""
    return move * own > 0 and abs(move) >= MOVED * min(abs(change), abs(own) or abs(change))


def versions(before: Environment, after: Environment) -> Iterator[str]:
    """Components that compute or measure, if they changed."""
    for name in ("torch", "python", "driver", "cuda"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield f"{name} {old} → {new}"
    for name in sorted(before.libraries.keys() | after.libraries.keys()):
        old, new = before.libraries.get(name), after.libraries.get(name)
        if old != new:
            yield f"{name} {old or 'none'} → {new or 'none'}"
    if None not in (before.harness, after.harness) and _harness(before) != _harness(after):
        yield f"bench {_harness(before)} → {_harness(after)}"


def _harness(environment: Environment) -> str:
    """The harness's version, with its commit if that is not what was measured itself."""
    named = environment.harness or ""
    own = environment.commit is not None and environment.commit in named
    return named.partition(" ")[0] if own else named


def _moves(series: Series, before: slice, after: slice) -> dict[str, float]:
    """Per model, the log ratio of its step times (or of its memory) after over before, close to the change:
    farther away the others have changes of their own."""
    old = [_figures(run, series) for run in series.runs[before][-MIN_LEVEL:]]
    new = [_figures(run, series) for run in series.runs[after][:MIN_LEVEL]]
    there = {model for figures in old for model in figures} & {model for figures in new for model in figures}
    return {model: _mean(new, model) - _mean(old, model) for model in there}


def _mean(runs: Sequence[Mapping[str, float]], model: str) -> float:
    return statistics.fmean(figures[model] for figures in runs if model in figures)


def _figures(run: Results, series: Series) -> dict[str, float]:
    """Logs of step times or bytes of the models in the same cell of the grid."""

    figures: dict[str, float] = {}
    for solo in run.solos.values():
        if solo.case.cell != series.case.cell or solo.status != "ok" or solo.case.id in run.lost:
            continue
        if solo.case.implementation == series.case.implementation and solo.case != series.case:
            continue  # Of another activation rate.
        if series.figure == "memory":
            count = solo.memory_bytes(MEMORY_KIND[run.kind])
            values = [float(count)] if count else []
        else:
            values = block_step_seconds(run.samples, solo.case.id)
        if values:
            figures[solo.case.implementation] = statistics.fmean(map(math.log, values))
    return figures
