"""Settings that tell rows of one model apart, as columns and in names."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.views.tables.row import Row


@dataclass(frozen=True)
class Setting:
    """Something that is equal for all figures that may be compared, and how it is told."""

    header: str
    """Header of its column."""
    show: Callable[[Row], str | None]
    """In the column; None if a row has none."""
    words: str = "{}"
    """In a name, around what the column shows."""
    number: Callable[[Row], float] | None = None
    """Value that its column is sorted by, if that is not the text."""
    field: str = ""
    """Name in CSV and JSON, if that is not the header in small letters."""
    among: Callable[[Row], object] = lambda row: None
    """Rows that differ in this anyway are not told apart by the setting besides."""
    help: str = ""
    """Description of the column, in a sentence."""

    def tells(self, rows: Sequence[Row]) -> bool:
        """Whether rows differ in it."""
        values: dict[object, set[str | None]] = defaultdict(set)
        for row in rows:
            values[self.among(row)].add(self.show(row))
        return any(len(shown) > 1 for shown in values.values())

    def name(self, row: Row) -> str | None:
        shown = self.show(row)
        words = self.words.removesuffix("s") if shown == "1" else self.words
        return None if shown is None else words.format(shown)


BATCH = Setting(
    "Batch",
    lambda row: str(row.batch),
    "batch {}",
    number=lambda row: row.batch,
    help="Sequences per step.",
)
LENGTH = Setting(
    "Length",
    lambda row: str(row.length),
    "length {}",
    number=lambda row: row.length,
    help="Time steps of each sequence.",
)
SETTINGS = (
    Setting("Workload", lambda row: row.workload, help="What the sequences are of, and the task."),
    LENGTH,
    BATCH,
    Setting(
        "Fill",
        lambda row: row.fill,
        "fill {}",
        help="Whether sequences fill the length (full) or are as long as the data (real).",
    ),
    Setting("Precision", lambda row: row.precision, help="Numbers that the model computes with."),
    Setting("Phase", lambda row: row.phase, help="What a step is: training, forward only, or decoding."),
    Setting(
        "Sizes",
        lambda row: row.hyperparameters,
        "{} sizes",
        field="hyperparameters",
        help="Whose depth, width and the rest.",
    ),
    Setting(
        "Backend",
        lambda row: row.backend_set,
        "backend {}",
        field="backend_set",
        help="Kernels that were asked for.",
    ),
    Setting(
        "Mode", lambda row: row.mode, field="mode", help="How a step is carried out: op by op, compiled, …"
    ),
    Setting("Seed", lambda row: str(row.seed), "seed {}", help="Seed of the weights and of the batches."),
    Setting(
        "Data", lambda row: row.data, among=lambda row: row.workload, help="What the batches are made of."
    ),
    Setting(
        "Weights",
        lambda row: row.checkpoint,
        field="checkpoint",
        among=lambda row: row.model,
        help="File of the weights; without one, as initialised.",
    ),
    Setting("Hardware", lambda row: row.hardware, help="Processor or GPU."),
    Setting("Device", lambda row: row.device, help="Device as torch names it."),
    Setting(
        "Threads",
        lambda row: str(row.threads),
        "{} threads",
        number=lambda row: row.threads,
        help="Threads that torch computes with.",
    ),
    Setting("Torch", lambda row: row.torch, "torch {}", help="Version of torch."),
    Setting("Allocator", lambda row: row.allocator, help="Allocator of the host's memory, and its settings."),
    Setting(
        "Pairing",
        lambda row: row.pairing,
        help="Whether it was timed in turns, or in a duet beside the baseline.",
    ),
    Setting(
        "Variables",
        lambda row: row.variables,
        help="Environment variables that change how a step is computed.",
    ),
)
"""All that rows can differ in but the model and its activation rate."""
RATE = Setting(
    "Activation",
    lambda row: None if row.activation_set is None else f"{row.activation_set:g}",
    "activation {}",
)


def names_of(rows: Sequence[Row], settings: Sequence[Setting]) -> list[str]:
    """A name for each row: its title, and those settings in which rows of that title differ."""
    by_title: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_title[row.title].append(row)
    telling = {title: [one for one in settings if one.tells(same)] for title, same in by_title.items()}
    return [
        ", ".join([row.title, *filter(None, (setting.name(row) for setting in telling[row.title]))])
        for row in rows
    ]
