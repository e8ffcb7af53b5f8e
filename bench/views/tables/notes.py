"""Notes below a table: why figures are missing, and how they were measured."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from functools import partial

import msgspec

from bench.records.environment import threads_in_words
from bench.records.published import sources
from bench.records.reading import Results
from bench.records.run import STOP_REASONS, Trained
from bench.records.solo import MEMORY_KIND, MemoryKind, Status
from bench.stats.intervals import MIN_BLOCKS
from bench.suites.case import Case
from bench.text.units import format_bytes, format_duration
from bench.views.tables.company import company_notes, load_lines
from bench.views.tables.disturbed import disturbances, share_of
from bench.views.tables.gpu_notes import gpu_notes
from bench.views.tables.naming import SETTINGS, Setting
from bench.views.tables.planned import outlook, plans
from bench.views.tables.plugin_notes import plugin_footer, plugin_notes
from bench.views.tables.rows import Row, title_of

MEMORY_KIND_NAMES: dict[MemoryKind, str] = {
    "tensor_bytes": "exact peak of live tensor bytes in a step",
    "allocated": "peak allocated by torch in a step",
    "predicted": "peak of live tensor bytes in a step, predicted",
}


GROWTH_BYTES = 1 << 16
"""From this many bytes on, what a step leaves behind is worth a note."""


class Footnote(msgspec.Struct, frozen=True):
    """Why rows have an X: a letter that stands beside it, and the reason."""

    letter: str
    text: str


STATUS_WORDS: dict[Status, str] = {
    "oom": "out of memory",
    "timeout": "out of time",
    "crashed": "crashed",
    "nan": "computed NaN",
    "wrong": "WRONG",
    "error": "failed",
    "unsupported": "not supported",
}


IN_NAMES = ("Length", "Mode")
"""Settings that stand in every name of a note."""


def footnotes_of(rows: Sequence[Row], reason_of: Callable[[Row], str]) -> dict[int, Footnote]:
    """One footnote for each reason, by number of the row."""
    failed: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if row.status != "ok":
            failed.setdefault(reason_of(row), []).append(number)
    notes = {}
    telling = [one for one in SETTINGS if one.header not in IN_NAMES and one.tells(rows)]
    for index, (reason, numbers) in enumerate(failed.items()):
        names = ", ".join(name_of(rows[number], telling) for number in numbers)
        note = Footnote(_letters(index), f"{names}: {reason}")
        notes.update(dict.fromkeys(numbers, note))
    return notes


def _letters(index: int) -> str:
    more, letter = divmod(index, 26)
    return (_letters(more - 1) if more else "") + chr(ord("a") + letter)


def name_of(row: Row, telling: Sequence[Setting] = ()) -> str:
    """A row in a note. telling: settings in which it differs from others of the table."""
    rate = "" if row.activation_set is None else f" (activation {row.activation_set:g})"
    more = "".join(f" ({words})" for one in telling if (words := one.name(row)))
    return f"{row.title}{rate}{_mode(row.mode)}{more} at {row.length}"


def _mode(mode: str) -> str:
    return "" if mode == "eager" else f" ({mode})"


def explain(row: Row) -> str:
    words = STATUS_WORDS.get(row.status, row.status)
    return f"{words}: {row.reason}" if row.reason and row.reason != words else words


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
    quick = any("--quick" in run.header.command for run in runs)
    without = ", and without `--quick`," if quick else ""
    return f"the same command with `--resume {file}`{without} measures more"


def is_as_published(row: Row) -> bool:
    """Whether it is what papers print speed and memory of: training on Text at 4K."""
    return row.published_speed is not None and row.phase == "train" and row.length == 4096


def _blocks(rows: Sequence[Row]) -> int:
    return max(row.blocks for row in rows)


def _where(some: Sequence[Sequence[Row]], panels: Collection[object]) -> str:
    """Lengths, in words, if they are not all of them."""
    lengths = dict.fromkeys(str(rows[0].length) for rows in some)
    return "" if len(some) == len(panels) else f" at {', '.join(lengths)}"


def run_notes(run: Results) -> list[str]:
    name = partial(_name, axes=run.header.suite.axes(run.kind))
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
        f"{_name(solo.case)} by {format_bytes(solo.growth_bytes)}"
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
                models[figure.unavailable].append(_name(solo.case))
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
    too_much = [f"{name_of(row)} ({row.utilisation:.0%})" for row in rows if (row.utilisation or 0) > 1]
    if too_much:
        notes.append(
            f"MFU above 100%: {', '.join(too_much)}: the product was slower than the model. The machine's "
            "speed changed, products of this precision are slow here, or not all that is counted is computed"
        )
    for solo in run.solos.values():
        counted = solo.arithmetic
        if counted and counted.unavailable:
            notes.append(f"no TFLOP/s of {_name(solo.case)}: {counted.unavailable}")
        if counted and counted.uncounted:
            operators = ", ".join(counted.uncounted)
            notes.append(f"not counted in TFLOP/s and MFU of {_name(solo.case)}: {operators}")
    return notes


def _name(case: Case, axes: Sequence[str] = ()) -> str:
    """A case in a note. axes: settings that have several values in its suite."""
    more = "".join(f" ({axis} {getattr(case, axis)})" for axis in axes)
    return f"{title_of(case.implementation)}{_mode(case.mode)}{more} at {case.length}"


def _comparisons(run: Results) -> list[str]:
    variants = [solo.variant for solo in run.solos.values() if solo.variant]
    seconds = [variant.seconds for variant in variants if variant.seconds]
    if not seconds:
        return []
    compared = "1 variant" if len(seconds) == 1 else f"{len(seconds)} variants"
    return [f"comparing {compared} with the reference took {format_duration(sum(seconds))}"]


def of_run(line: str, run: Results, runs: Sequence[Results]) -> str:
    return line if len(runs) == 1 else f"{run.path}: {line}"


def footer_of(runs: Sequence[Results], rows: Sequence[Row], published: bool) -> list[str]:
    lines = []
    for run in runs:
        lines.append(of_run(setting_of(run, rows), run, runs))
        lines.append(f"{run.header.environment.hardware}, {machine(run)}")
        lines += [of_run(line, run, runs) for line in plugin_footer(run)]
        lines += _devices(run)
        lines.append(_how_it_stopped(run))
        lines += load_lines(run)
        lines += [of_run(line, run, runs) for line in plans(run, _name)]
        lines += [of_run(_training(name, made), run, runs) for name, made in run.header.checkpoints.items()]
    kinds = {run.kind: MEMORY_KIND_NAMES[MEMORY_KIND[run.kind]] for run in runs}
    memory = "; ".join(kinds.values() if len(kinds) == 1 else (f"{k}: {name}" for k, name in kinds.items()))
    lines.append(
        f"Mem: {memory}. Speed: mean over blocks with its 95% interval; each block is a fresh process for "
        "every model"
    )
    if any(row.phase == "decode" for row in rows):
        lines.append(
            "decode: a step is one token of each sequence, after a context of that length; "
            "State: what is kept of the batch's sequences"
        )
    return [*lines, *_published_footer(rows, published)]


def _published_footer(rows: Sequence[Row], published: bool) -> list[str]:
    lines = []
    if any(map(is_as_published, rows)):
        lines.append(
            "Published: Text at 4K, on other hardware and by several protocols; see results/published"
        )
    if published:
        lines.append(
            "Published accuracy in %, X: not learned or not reported; sources: "
            + "; ".join(sources(row.model for row in rows))
        )
    return lines


def setting_of(run: Results, rows: Sequence[Row]) -> str:
    suite = run.header.suite
    # Newer files' rows may stand in place of all of this one's.
    sizes = {row.batch for row in rows if row.run == run.path} or {
        case.batch for case in suite.cases(run.kind)
    }
    batches = ", ".join(map(str, sorted(sizes)))
    lengths = ", ".join(str(length) for length in suite.lengths)
    held_out = ", held out of training" if suite.checkpoints else ""
    return (
        f"{suite.name}: {suite.phase}, {suite.workload}, {', '.join(suite.precisions)}, length {lengths}, "
        f"batch {batches} ({', '.join(suite.fills)}), {_sizes(suite.hyperparameters)}, "
        f"data: {run.header.data}{held_out}"
    )


def _sizes(mode: str) -> str:
    wanted = mode.removeprefix("params:")
    return f"{wanted} parameters each" if wanted != mode else f"{mode} hyper-parameters"


def _training(name: str, made: Trained) -> str:
    """Origin of trained weights, and that nothing was set by hand."""
    quality = f", validation accuracy {made.accuracy:.1%}" if made.accuracy is not None else ""
    if made.bits_per_character is not None:
        quality = f", {made.bits_per_character:.3f} bits per character in validation"
    rates = ", ".join(f"{rate:.0%}" for rate in made.activation_by_layer)
    activation = f"; activation as trained, by layer {rates} in validation" if rates else ""
    return (
        f"{title_of(name)}: weights of {made.file}, {made.steps} of {made.of_steps} steps of {made.batch} "
        f"sequences, seed {made.seed}{quality}{activation}"
    )


def machine(run: Results) -> str:
    environment = run.header.environment
    memory, variables = format_bytes(environment.memory_bytes), environment.set_by_variables
    if environment.driver is None:
        settings = ", ".join(filter(None, (f"torch {environment.torch}", environment.allocator, variables)))
        own = run.header.suite.own_threads
        threads = threads_in_words(environment.threads, environment.pairing)
        if own != (None,):
            threads = f"{', '.join(map(str, own))} threads"
        return f"{threads}, {memory}, {settings}"
    return f"{memory}, driver {environment.driver}, CUDA {environment.cuda}, torch {environment.torch}"


def _devices(run: Results) -> list[str]:
    """Devices of a cluster that it was measured on; nothing of this machine."""
    names = dict.fromkeys(f"{device.node} ({device.device})" for device in run.devices)
    return [f"on {len(names)} devices of a cluster: {', '.join(names)}"] if names else []


def _how_it_stopped(run: Results) -> str:
    blocks = 1 + max((sample.block for sample in run.samples), default=-1)
    disturbed = share_of(run)
    if run.end is None:
        return f"{blocks} blocks, {len(run.samples)} runs{disturbed}; the run has not ended, or was killed"
    return (
        f"{blocks} blocks, {len(run.samples)} runs in {format_duration(run.end.seconds)}{disturbed}; "
        f"stopped because {STOP_REASONS[run.end.reason]}"
    )
