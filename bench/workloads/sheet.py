"""Data sheet of a workload: where the data comes from, what is missing, statistics, a sample."""

from typing import Any

import msgspec
import numpy as np

from bench import workloads
from bench.errors import UsageError
from bench.text.text_table import text_table
from bench.workloads import Batch, Workload, grey
from bench.workloads.base import used

SEQUENCES = 96
SAMPLE_LINES, SAMPLE_COLUMNS = 70, 400
PICTURES = 12
OF_PICTURES = ("image", "pathfinder", "path-x")


class SheetSource(msgspec.Struct, frozen=True, kw_only=True):
    """A source that the batches could be made of."""

    name: str
    kind: str
    """real, generated (by the task's published procedure) or synthetic."""
    used: bool
    location: str | None
    """Path on this machine; None if it is missing."""
    obtain: str
    """Steps to get it; empty if it is built in."""


class DataSheet(msgspec.Struct, frozen=True, kw_only=True):
    """A workload as `bench data` shows it."""

    name: str
    description: str
    data: str
    """The data in words, as every result states it."""
    length: int
    """Length of the sequences that statistics and sample are taken from, in time steps."""
    sources: list[SheetSource]
    statistics: dict[str, Any]
    sample: str


def describe(name: str, length: int | None = None, seed: int = 0, sequences: int = SEQUENCES) -> DataSheet:
    """Data sheet of a workload, over sequences of true lengths; `length` None: the published length.

    Raises UsageError if the workload or the length is unknown, or if data cannot be read.
    """
    workload = workloads.load(name)
    length = length or workload.published_length
    sources = workload.sources()
    batch = workload.batch(length, sequences, "real", seed)
    return DataSheet(
        name=name,
        description=workload.description,
        data=workload.data(),
        length=length,
        sources=[
            SheetSource(
                name=source.name,
                kind=source.kind,
                used=source is used(sources),
                location=source.location,
                obtain=source.obtain,
            )
            for source in sources
        ],
        statistics=_statistics(workload, batch),
        sample=workload.show(batch),
    )


def picture(name: str, length: int | None = None, seed: int = 0) -> bytes:
    """A PNG file of a dozen samples. Raises UsageError if the workload has no pictures."""
    workload = workloads.load(name)
    if name not in OF_PICTURES:
        raise UsageError(f"{name} has no pictures; {', '.join(OF_PICTURES)} have")
    length = length or workload.published_length
    return grey.png(grey.sheet(workload.batch(length, PICTURES, "full", seed).inputs.astype(np.float32)))


def as_text(sheet: DataSheet) -> str:
    """The sheet for people."""
    sources = [
        [
            "*" if source.used else "",
            source.name,
            source.kind,
            source.location or f"missing; to get it: {source.obtain}",
        ]
        for source in sheet.sources
    ]
    statistics = [[key.replace("_", " "), _value(value)] for key, value in sheet.statistics.items()]
    return "\n\n".join(
        [
            f"{sheet.name}: {sheet.description}\ndata: {sheet.data}",
            text_table(sources, ["used", "source", "kind", "where"]),
            text_table(statistics, [f"at length {sheet.length}", ""]),
            f"A sample:\n{_shortened(sheet.sample)}",
        ]
    )


def _statistics(workload: Workload, batch: Batch) -> dict[str, Any]:
    sequences = len(batch.inputs)
    found: dict[str, Any] = {"sequences": sequences, "real_share": round(batch.real_tokens / batch.tokens, 4)}
    if batch.lengths is not None:
        found["true_lengths"] = {
            "min": int(batch.lengths.min()),
            "median": int(np.median(batch.lengths)),
            "mean": round(float(batch.lengths.mean()), 1),
            "p90": int(np.quantile(batch.lengths, 0.9)),
            "max": int(batch.lengths.max()),
        }
    task = workload.task(batch.inputs.shape[-1])
    if task.input == "tokens":
        found["distinct_tokens"] = int(np.unique(batch.inputs[batch.inputs > 0]).size)
    else:
        found["values"] = {
            "min": round(float(batch.inputs.min()), 4),
            "mean": round(float(batch.inputs.mean()), 4),
            "deviation": round(float(batch.inputs.std()), 4),
            "max": round(float(batch.inputs.max()), 4),
        }
    if task.head != "language-model":
        counts = np.bincount(batch.targets, minlength=task.classes)
        found["labels"] = {str(label): round(int(count) / sequences, 4) for label, count in enumerate(counts)}
        found["majority_baseline"] = round(int(counts.max()) / sequences, 4)
    return found


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {part}" for key, part in value.items())
    return str(value)


def _shortened(sample: str) -> str:
    lines = sample.splitlines()
    kept = [line if len(line) <= SAMPLE_COLUMNS else f"{line[:SAMPLE_COLUMNS]} …" for line in lines]
    return "\n".join(kept if len(kept) <= SAMPLE_LINES else [*kept[:SAMPLE_LINES], "…"])
