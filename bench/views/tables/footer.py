"""The last lines below a table: how its figures were measured, and on what."""

from collections.abc import Sequence

from bench.records.environment import threads_in_words
from bench.records.published import sources
from bench.records.reading import Results
from bench.records.run import STOP_REASONS, Trained
from bench.records.solo import MEMORY_KIND, MemoryKind
from bench.text.units import format_bytes, format_duration
from bench.views.tables.company import load_lines
from bench.views.tables.disturbed import share_of
from bench.views.tables.footnotes import case_name
from bench.views.tables.planned import plans
from bench.views.tables.plugin_notes import plugin_footer
from bench.views.tables.row import Row
from bench.views.tables.titles import title_of
from bench.workloads.own_files import is_own_file

MEMORY_KIND_NAMES: dict[MemoryKind, str] = {
    "tensor_bytes": "exact peak of live tensor bytes in a step",
    "allocated": "peak allocated by torch in a step",
    "predicted": "peak of live tensor bytes in a step, predicted",
}


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
        lines += [of_run(line, run, runs) for line in plans(run, case_name)]
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
    if any(row.is_as_published for row in rows):
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
        f"{suite.name}: {suite.phase}, {_workload(suite.workload)}, {', '.join(suite.precisions)}, "
        f"length {lengths}, "
        f"batch {batches} ({', '.join(suite.fills)}), {_sizes(suite.hyperparameters)}, "
        f"data: {run.header.data}{held_out}"
    )


def _workload(name: str) -> str:
    """A workload, and the task of a file of the user's, whatever the suite's own is."""
    return f"{name} (language modelling)" if is_own_file(name) else name


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
