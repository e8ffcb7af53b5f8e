"""The table of one or several result files: rows in the published order, with notes on all that is missing.

A view on records. Several files become one table by four rules:

1. The same run given twice counts once.
2. A ratio is formed within its own file, never across two; all files must therefore have the baseline.
3. Rows are the same only if case, device, hardware, threads and torch are. What differs between the rows of
   a table gets a column, and only rows that agree in all of it are ranked against each other.
4. Where two files have the same row, the newest run that reached it stands, also where it failed there; a
   note names the other file and what it says.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import msgspec

from bench.errors import UsageError
from bench.published import sources
from bench.record import STOP_REASONS, Status, Trained
from bench.result_file import Results
from bench.rows import MEMORY_KIND, NOT_REACHED, MemoryKind, Row, kind_of, machine_of, rows_of, title_of
from bench.stats import MIN_BLOCKS
from bench.units import format_bytes, format_duration, format_ratio

if TYPE_CHECKING:
    from bench.formats import Format

MEMORY_KIND_NAMES: dict[MemoryKind, str] = {
    "tensor_bytes": "exact peak of live tensor bytes in a step",
    "allocated": "peak allocated by torch in a step",
    "predicted": "peak of live tensor bytes in a step, predicted",
}

COMPLEXITIES = ("quadratic", "sub-quadratic", "linear", "unknown")
"""Classes of inference complexity, in the order of the published table."""


class Footnote(msgspec.Struct, frozen=True):
    """Why rows have an X: a letter that stands beside it, and the reason."""

    letter: str
    text: str


class Table(msgspec.Struct, frozen=True):
    """Rows in order, and the lines that belong below them."""

    baseline: str
    """Title of the model that ratios are to."""
    rows: list[Row]
    footnotes: dict[int, Footnote]
    """By number of the row."""
    notes: list[str]
    footer: list[str]
    published: bool = False
    """Whether the published accuracies stand beside the measured figures."""
    timed: bool = True
    """Whether there are times; a table without them shows those columns only that say something."""

    @property
    def grouped(self) -> bool:
        """Whether the rows fall into several complexity classes."""
        return len({row.complexity for row in self.rows}) > 1

    def render(self, form: "Format") -> str:
        """The table as terminal, markdown, latex, csv, html or json. Raises UsageError for another format."""
        from bench import formats  # which is written in terms of this module

        if form not in formats.FORMATS:
            raise UsageError(f"table format {form}: choose {', '.join(formats.FORMATS)}")
        return formats.render(self, form)

    def __str__(self) -> str:
        return self.render("terminal")

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return self.render("html")


def build_table(*results: Results, baseline: str | None = None, published: bool = False) -> Table:
    """The table of one or several runs, against their baseline or another of their implementations.

    Raises UsageError where a file lacks the baseline, or where the files' own baselines differ.
    """
    runs = _distinct(results)
    name = baseline or common_baseline(runs)
    rows, conflicts = _merge([rows_of(run, name) for run in runs])
    rows = sorted(rows, key=_order(rows))
    footnotes = _footnotes(rows, explain)
    notes = [f"{note.letter}  {note.text}" for note in dict.fromkeys(footnotes.values())]
    notes += [*comparison_notes(rows, name), *conflicts]
    for run in runs:
        notes += [_of_run(line, run, runs) for line in _run_notes(run)]
    return Table(title_of(name), rows, footnotes, notes, _footer(runs, rows, published), published)


def untimed_table(run: Results, rows: list[Row], notes: list[str]) -> Table:
    """The table of rows that nobody timed; the reason of each that has no figure stands in a footnote."""
    rows = sorted(rows, key=_rank)
    footnotes = _footnotes(rows, lambda row: row.reason or row.status)
    reasons = [f"{note.letter}  {note.text}" for note in dict.fromkeys(footnotes.values())]
    environment = run.header.environment
    footer = [_setting(run, rows), f"{environment.hardware}, {machine(run)}"]
    title = title_of(run.header.suite.baseline)
    return Table(title, rows, footnotes, reasons + notes, footer, timed=False)


def _distinct(results: Sequence[Results]) -> list[Results]:
    return list({msgspec.json.encode(run.header): run for run in results}.values())


def common_baseline(runs: Sequence[Results]) -> str:
    names = {run.header.suite.baseline: run.path for run in runs}
    if len(names) > 1:
        (one, first), (other, second) = list(names.items())[:2]
        raise UsageError(
            f"{first} is against {one}, {second} against {other}: name one for both with --baseline"
        )
    return next(iter(names))


def _merge(tables: Sequence[list[Row]]) -> tuple[list[Row], list[str]]:
    """One row for each cell, by rule 4, and a note for each that gave way."""
    kept: dict[tuple[str, str, str, int, str], Row] = {}
    notes = []
    for row in sorted((row for rows in tables for row in rows), key=lambda row: row.created, reverse=True):
        standing = kept.setdefault(row.cell, row)
        if standing is row or row.reason == NOT_REACHED:
            continue
        if standing.reason == NOT_REACHED:
            kept[row.cell] = row
        else:
            notes.append(
                f"{_name(row)}: {standing.run} ({_says(standing)}) is newer than {row.run} ({_says(row)})"
            )
    return [row for rows in tables for row in rows if kept[row.cell] is row], notes


def _says(row: Row) -> str:
    if row.status != "ok":
        return _WORDS.get(row.status, row.status)
    return "not timed" if row.speed_ratio is None else f"speed {format_ratio(row.speed_ratio)}"


def _order(rows: Sequence[Row]) -> Callable[[Row], tuple[int, int, int]]:
    """By workload and machine as they come, then by length, then by class, else as the suite has them."""
    places = {place: number for number, place in enumerate(dict.fromkeys(map(_place, rows)))}
    return lambda row: (places[_place(row)], row.length, _rank(row))


def _place(row: Row) -> tuple[object, ...]:
    return (row.workload, row.precision, row.phase, row.fill, *machine_of(row))


def _rank(row: Row) -> int:
    return COMPLEXITIES.index(row.complexity) if row.complexity in COMPLEXITIES else len(COMPLEXITIES)


_WORDS: dict[Status, str] = {
    "oom": "out of memory",
    "timeout": "out of time",
    "crashed": "crashed",
    "nan": "computed NaN",
    "wrong": "WRONG",
    "error": "failed",
    "unsupported": "not supported",
}


def _footnotes(rows: Sequence[Row], reason_of: Callable[[Row], str]) -> dict[int, Footnote]:
    """One footnote for each reason, by number of the row."""
    failed: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if row.status != "ok":
            failed.setdefault(reason_of(row), []).append(number)
    notes = {}
    for index, (reason, numbers) in enumerate(failed.items()):
        names = ", ".join(_name(rows[number]) for number in numbers)
        note = Footnote(_letters(index), f"{names}: {reason}")
        notes.update(dict.fromkeys(numbers, note))
    return notes


def _letters(index: int) -> str:
    more, letter = divmod(index, 26)
    return (_letters(more - 1) if more else "") + chr(ord("a") + letter)


def _name(row: Row) -> str:
    rate = "" if row.activation_set is None else f" (activation {row.activation_set:g})"
    return f"{row.title}{rate} at {row.length}"


def explain(row: Row) -> str:
    words = _WORDS.get(row.status, row.status)
    return f"{words}: {row.reason}" if row.reason and row.reason != words else words


def comparison_notes(rows: Sequence[Row], baseline: str) -> list[str]:
    """Why models that were timed have no ratio to the baseline, or no interval of it, and what to do."""
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
            f"{MIN_BLOCKS}; the same command with `--resume FILE`, and without `--quick`, measures more"
        )
    return notes


def _blocks(rows: Sequence[Row]) -> int:
    return max(row.blocks for row in rows)


def _where(some: Sequence[Sequence[Row]], panels: Collection[object]) -> str:
    """At which lengths, where it is not all of them."""
    lengths = dict.fromkeys(str(rows[0].length) for rows in some)
    return "" if len(some) == len(panels) else f" at {', '.join(lengths)}"


def _run_notes(run: Results) -> list[str]:
    notes = []
    unsteady = [solo.case for solo in run.solos.values() if solo.stationary is False]
    if unsteady:
        names = ", ".join(f"{title_of(case.implementation)} at {case.length}" for case in unsteady)
        notes.append(f"warm-up ended before the step time was stationary: {names}")
    throttled = sum(sample.throttled is not None for sample in run.samples)
    if throttled:
        notes.append(f"{throttled} of {len(run.samples)} runs were made while the GPU was throttled")
    notes += [void.words for void in run.voids]
    if run.notice:
        notes.append(run.notice)
    return notes


def _of_run(line: str, run: Results, runs: Sequence[Results]) -> str:
    return line if len(runs) == 1 else f"{run.path}: {line}"


def _footer(runs: Sequence[Results], rows: Sequence[Row], published: bool) -> list[str]:
    lines = []
    for run in runs:
        lines.append(_of_run(_setting(run, rows), run, runs))
        lines.append(f"{run.header.environment.hardware}, {machine(run)}")
        lines += _devices(run)
        lines.append(_how_it_stopped(run))
        lines += [_of_run(_training(name, made), run, runs) for name, made in run.header.checkpoints.items()]
    kinds = {kind_of(run): MEMORY_KIND_NAMES[MEMORY_KIND[kind_of(run)]] for run in runs}
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
    if any(row.published_speed is not None for row in rows):
        lines.append(
            "Published: Text at 4K, on other hardware and by several protocols; see results/published"
        )
    if published:
        lines.append(
            "Published accuracy in %, X: not learned or not reported; sources: "
            + "; ".join(sources(row.model for row in rows))
        )
    return lines


def _setting(run: Results, rows: Sequence[Row]) -> str:
    suite = run.header.suite
    batches = ", ".join(sorted({str(row.batch) for row in rows if row.run == run.path}))
    lengths = ", ".join(str(length) for length in suite.lengths)
    held_out = ", held out of training" if suite.checkpoints else ""
    return (
        f"{suite.name}: {suite.phase}, {suite.workload}, {suite.precision}, length {lengths}, "
        f"batch {batches} ({suite.fill}), {suite.hyperparameters} hyper-parameters, "
        f"data: {run.header.data}{held_out}"
    )


def _training(name: str, made: Trained) -> str:
    """Where trained weights are from, and that nothing was set by hand."""
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
    memory = format_bytes(environment.memory_bytes)
    if environment.driver is None:
        allocator = f", {environment.allocator}" if environment.allocator else ""
        return f"{environment.threads} threads, {memory}, torch {environment.torch}{allocator}"
    return f"{memory}, driver {environment.driver}, CUDA {environment.cuda}, torch {environment.torch}"


def _devices(run: Results) -> list[str]:
    """Where in a cluster it was measured; nothing of this machine."""
    names = dict.fromkeys(f"{device.node} ({device.device})" for device in run.devices)
    return [f"on {len(names)} devices of a cluster: {', '.join(names)}"] if names else []


def _how_it_stopped(run: Results) -> str:
    blocks = 1 + max((sample.block for sample in run.samples), default=-1)
    if run.end is None:
        return f"{blocks} blocks, {len(run.samples)} runs; the run has not ended, or was killed"
    return (
        f"{blocks} blocks, {len(run.samples)} runs in {format_duration(run.end.seconds)}; "
        f"stopped because {STOP_REASONS[run.end.reason]}"
    )
