"""Notes below a table: why figures are missing, and what was out of the ordinary in a run."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import partial

from bench.records.reading import Results
from bench.records.solo import MEMORY_KIND
from bench.stats.intervals import MIN_BLOCKS
from bench.text.units import format_bytes, format_duration
from bench.views.tables.company import company_notes
from bench.views.tables.disturbed import disturbances
from bench.views.tables.footnotes import case_name, row_name
from bench.views.tables.gpu_notes import gpu_notes
from bench.views.tables.planned import outlook
from bench.views.tables.plugin_notes import plugin_notes
from bench.views.tables.row import Row
from bench.views.tables.titles import title_of

GROWTH_BYTES = 1 << 16
"""From this many bytes on, what a step leaves behind is worth a note."""


def comparison_notes(rows: Sequence[Row], baseline: str, runs: Sequence[Results]) -> list[str]:
    """Why models that were timed have no ratio to the baseline, or no interval of it, and what to do.

    runs: those that the rows are of.
    """
    panels: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        panels.setdefault(row.panel, []).append(row)
    alone, few = [], []
    for panel in panels.values():
        if not any(row.status == "ok" for row in panel):
            continue
        if not any(row.status == "ok" for row in panel if row.model == baseline):
            alone.append(panel)
        elif _blocks(panel) < MIN_BLOCKS:
            few.append(panel)
    notes = []
    if alone:
        notes.append(
            f"no ratios{_where(alone, panels)}: the baseline, {title_of(baseline)}, was not timed there; "
            "`--baseline MODEL` takes another"
        )
    for blocks in sorted({_blocks(panel) for panel in few}):
        found = [panel for panel in few if _blocks(panel) == blocks]
        notes.append(
            f"no intervals{_where(found, panels)}: {blocks} block(s) were measured, an interval needs "
            f"{MIN_BLOCKS}; {_more_blocks(runs)}"
        )
    return notes


def _more_blocks(runs: Sequence[Results]) -> str:
    """Advice for more blocks."""
    file = runs[0].path if len(runs) == 1 else "FILE"
    if any("--quick" in run.header.command for run in runs):
        return f"the same command with `--resume {file}`, and without `--quick`, measures more"
    return f"`bench run --resume {file}` measures more"


def _blocks(rows: Sequence[Row]) -> int:
    return max(row.blocks for row in rows)


def _where(some: Sequence[Sequence[Row]], panels: Collection[object]) -> str:
    """Lengths, in words, if they are not all of them."""
    lengths = dict.fromkeys(str(rows[0].length) for rows in some)
    return "" if len(some) == len(panels) else f" at {', '.join(lengths)}"


def run_notes(run: Results) -> list[str]:
    name = partial(case_name, axes=run.header.suite.axes(run.kind))
    notes = []
    unsteady = [solo.case for solo in run.solos.values() if solo.stationary is False]
    if unsteady:
        names = ", ".join(map(name, unsteady))
        notes.append(f"warm-up ended before the step time was stationary: {names}")
    notes += gpu_notes(run)
    notes += company_notes(run)
    notes += disturbances(run, name)
    notes += outlook(run)
    notes += _growth(run)
    notes += _no_memory(run)
    notes += plugin_notes(run)
    notes += _comparisons(run)
    notes += [void.words for void in run.voids]
    if run.notice:
        notes.append(run.notice)
    return notes


def _growth(run: Results) -> list[str]:
    """Notes on models that hold more after a step than before it."""
    grown = [
        f"{case_name(solo.case)} by {format_bytes(solo.growth_bytes)}"
        for solo in run.solos.values()
        if solo.growth_bytes is not None and solo.growth_bytes >= GROWTH_BYTES
    ]
    return [f"memory grows with every step: {', '.join(grown)}"] if grown else []


def _no_memory(run: Results) -> list[str]:
    """Notes on why measured models have no figure of memory."""
    models: dict[str, list[str]] = defaultdict(list)
    for solo in run.solos.values():
        for figure in solo.memory:
            if solo.status == "ok" and figure.kind == MEMORY_KIND[run.kind] and figure.unavailable:
                models[figure.unavailable].append(case_name(solo.case))
    return [f"no memory of {', '.join(names)}: {reason}" for reason, names in models.items()]


def arithmetic_notes(run: Results, rows: Sequence[Row]) -> list[str]:
    """Notes on TFLOP/s and MFU: the work counted, why some are missing, and which can't be."""
    rows = [row for row in rows if row.run == run.path]
    if not any(row.flops for row in rows):
        return []
    ceilings = {
        row.precision: f"{row.ceiling_flops_per_second / 1e12:.3g} TFLOP/s in {row.precision}"
        for row in rows
        if row.ceiling_flops_per_second
    }
    over = ", ".join(ceilings.values())
    notes = [
        "TFLOP/s: the FLOPs of all operators of a step over its time. Products, convolutions and attention "
        "are counted exactly; transforms as 5 N log2 N, softmax and norms as 5 per element, other arithmetic "
        "as 1 per element. MFU: over the best matrix product that this run measured"
        + (f" ({over})" if over else "")
    ]
    too_much = [f"{row_name(row)} ({row.utilisation:.0%})" for row in rows if (row.utilisation or 0) > 1]
    if too_much:
        notes.append(
            f"MFU above 100%: {', '.join(too_much)}: the product was slower than the model. The machine's "
            "speed changed, products of this precision are slow here, or not all that is counted is computed"
        )
    for solo in run.solos.values():
        counted = solo.arithmetic
        if counted and counted.unavailable:
            notes.append(f"no TFLOP/s of {case_name(solo.case)}: {counted.unavailable}")
        if counted and counted.uncounted:
            operators = ", ".join(counted.uncounted)
            notes.append(f"not counted in TFLOP/s and MFU of {case_name(solo.case)}: {operators}")
    return notes


def _comparisons(run: Results) -> list[str]:
    variants = [solo.variant for solo in run.solos.values() if solo.variant]
    seconds = [variant.seconds for variant in variants if variant.seconds]
    if not seconds:
        return []
    compared = "1 variant" if len(seconds) == 1 else f"{len(seconds)} variants"
    parts = [
        f"{case_name(solo.case)} {solo.variant.sample}"
        for solo in run.solos.values()
        if solo.variant and not solo.variant.whole
    ]
    took = f"comparing {compared} with the reference took {format_duration(sum(seconds))}"
    return [took, *([f"compared as far as the reference has memory: {', '.join(parts)}"] if parts else [])]
