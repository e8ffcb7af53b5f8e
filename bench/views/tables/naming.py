"""What tells rows of one model apart: the settings in which they differ, as columns and in names."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.views.tables.rows import Row


@dataclass(frozen=True)
class Setting:
    """Something that is equal for all figures that may be compared, and how it is told."""

    header: str
    """Of its column."""
    show: Callable[[Row], str | None]
    """In the column; None if a row has none."""
    words: str = "{}"
    """In a name, around what the column shows."""
    number: Callable[[Row], float] | None = None
    """What its column is sorted by, if that is not the text."""
    among: Callable[[Row], object] = lambda row: None
    """Rows that differ in this anyway are not told apart by the setting besides."""

    def tells(self, rows: Sequence[Row]) -> bool:
        """Whether rows differ in it."""
        values: dict[object, set[str | None]] = defaultdict(set)
        for row in rows:
            values[self.among(row)].add(self.show(row))
        return any(len(shown) > 1 for shown in values.values())

    def name(self, row: Row) -> str | None:
        shown = self.show(row)
        return None if shown is None else self.words.format(shown)


BATCH = Setting("Batch", lambda row: str(row.batch), "batch {}", number=lambda row: row.batch)
LENGTH = Setting("Length", lambda row: str(row.length), "length {}", number=lambda row: row.length)
SETTINGS = (
    Setting("Workload", lambda row: row.workload),
    LENGTH,
    BATCH,
    Setting("Fill", lambda row: row.fill, "fill {}"),
    Setting("Precision", lambda row: row.precision),
    Setting("Phase", lambda row: row.phase),
    Setting("Sizes", lambda row: row.hyperparameters, "{} sizes"),
    Setting("Backend", lambda row: row.backend_set, "backend {}"),
    Setting("Seed", lambda row: str(row.seed), "seed {}"),
    Setting("Data", lambda row: row.data, among=lambda row: row.workload),
    Setting("Weights", lambda row: row.checkpoint, among=lambda row: row.model),
    Setting("Hardware", lambda row: row.hardware),
    Setting("Device", lambda row: row.device),
    Setting("Threads", lambda row: str(row.threads), "{} threads", number=lambda row: row.threads),
    Setting("Torch", lambda row: row.torch, "torch {}"),
    Setting("Allocator", lambda row: row.allocator),
    Setting("Pairing", lambda row: row.pairing),
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
