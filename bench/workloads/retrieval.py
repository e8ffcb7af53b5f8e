"""Retrieval: are two documents related? Two towers, byte by byte (2 classes).

The published pairs are of the ACL Anthology (Radev et al. 2013; LRA: do they cite each other?). Read from
the user's LRA folder; else a pair is the first half of an article and the second half of the same or of
another one, from the enwiki dump in the package gensim or from the topics of the Python manual.

Byte b is token b + 1, so that 0 stays the padding token.
"""

import functools
import html
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.workloads import files, lm
from bench.workloads.base import Batch, DataSource, Fill, text_of, used
from bench.workloads.splits import Split, Splittable, generator_of
from implementations.task import Task

VOCABULARY = 257
MAX_LENGTH = 1 << 16
MIN_ARTICLE_BYTES = 1024
"""Shorter articles are redirections and stubs."""
LRA_FILES: Mapping[Split, str] = {
    "all": "tsv_data/new_aan_pairs.train.tsv",
    "train": "tsv_data/new_aan_pairs.train.tsv",
    "validation": "tsv_data/new_aan_pairs.eval.tsv",
}

Pair = tuple[bytes, bytes, int]
"""Two documents, and 1 if they are related, else 0."""
Draw = Callable[[np.random.Generator], Pair]


@dataclass(frozen=True)
class Pairs:
    """Source of pairs, its description, and the number of pairs; None if they are made without end."""

    draw: Draw
    description: str
    count: int | None


@dataclass(frozen=True)
class Articles(Splittable):
    """Texts that pairs are made of; both halves of one are in the same split."""

    texts: tuple[bytes, ...]

    def keys(self) -> Iterable[bytes]:
        return self.texts

    def take(self, numbers: npt.NDArray[np.int64]) -> "Articles":
        return Articles(tuple(self.texts[number] for number in numbers))


class Retrieval:
    """The LRA task Retrieval."""

    name = "retrieval"
    description = "are two documents related, byte by byte (two towers, 2 classes)"
    max_length = MAX_LENGTH
    published_length = 4000

    def task(self, length: int) -> Task:
        return Task("retrieval", length=length, classes=2, head="two-tower", vocabulary=VOCABULARY)

    def sources(self) -> tuple[DataSource, ...]:
        anthology, enwiki = files.lra_file(LRA_FILES["all"]), files.package_file("gensim", lm.ENWIKI)
        return (
            DataSource(
                "ACL Anthology",
                "real",
                None if anthology is None else str(anthology),
                f"unpack lra_release.gz and name its folder in {files.LRA_VARIABLE}",
            ),
            DataSource(
                "halves of enwiki articles",
                "real",
                None if enwiki is None else str(enwiki),
                "pip install 'seqboat-bench[data]'",
            ),
            DataSource("halves of the Python manual's topics", "real", "pydoc_data"),
        )

    def sequences(self, split: Split) -> int | None:
        return _pairs(split).count

    def data(self) -> str:
        return _pairs("all").description

    def batch(
        self, length: int, batch: int, fill: Fill, seed: int, index: int = 0, split: Split = "all"
    ) -> Batch:
        """Pairs, related with probability ½: inputs `(batch, 2, length)`, lengths `(batch, 2)`.

        real: documents cut at `length`, or padded on the right to it. full: documents shorter than that are
        followed by others.
        """
        if not 1 <= length <= MAX_LENGTH:
            raise UsageError(f"retrieval gives lengths from 1 to {MAX_LENGTH}, not {length}")
        generator = generator_of(seed, index, length, split)
        draw = _pairs(split).draw
        inputs = np.zeros((batch, 2, length), dtype=np.int64)
        lengths = np.zeros((batch, 2), dtype=np.int64)
        targets = np.zeros(batch, dtype=np.int64)
        for row in range(batch):
            *documents, targets[row] = draw(generator)
            for tower, document in enumerate(documents):
                if fill == "full":
                    document = _lengthened(document, length, draw, generator)
                tokens = np.frombuffer(document[:length], dtype=np.uint8).astype(np.int64) + 1
                inputs[row, tower, : tokens.size] = tokens
                lengths[row, tower] = tokens.size
        return Batch(inputs=inputs, lengths=None if (lengths == length).all() else lengths, targets=targets)

    def show(self, batch: Batch, row: int = 0) -> str:
        first, second = map(text_of, batch.inputs[row])
        return f"{first}\n\n{'— related to —' if batch.targets[row] else '— not related to —'}\n\n{second}"


def _lengthened(document: bytes, length: int, draw: Draw, generator: np.random.Generator) -> bytes:
    while len(document) < length:
        document += b"\n\n" + draw(generator)[0]
    return document


@functools.cache
def _pairs(split: Split) -> Pairs:
    """The pairs of a split."""
    source = used(WORKLOAD.sources())
    if source.name == "ACL Anthology":
        return _anthology(split)
    articles = _python_topics() if source.location == "pydoc_data" else _enwiki(Path(str(source.location)))
    what = "topics of the Python manual" if source.location == "pydoc_data" else "enwiki articles (gensim)"
    return Pairs(_halves(articles.part(split).texts), f"halves of {len(articles.texts)} {what}", None)


def _halves(articles: tuple[bytes, ...]) -> Draw:
    def draw(generator: np.random.Generator) -> Pair:
        first = int(generator.integers(len(articles)))
        other = (first + 1 + int(generator.integers(len(articles) - 1))) % len(articles)
        related = int(generator.integers(2))
        return _half(articles[first], 0), _half(articles[first if related else other], 1), related

    return draw


def _half(article: bytes, number: int) -> bytes:
    middle = article.find(b"\n", len(article) // 2)
    middle = len(article) // 2 if middle in (-1, len(article) - 1) else middle + 1
    return article[middle:] if number else article[:middle]


@functools.cache
def _enwiki(archive: Path) -> Articles:
    content = files.decompressed(archive).decode("utf-8", "replace")
    texts = re.findall(r"<text[^>]*>(.*?)</text>", content, flags=re.DOTALL)
    return _articles(html.unescape(text) for text in texts)


def _python_topics() -> Articles:
    from pydoc_data.topics import topics

    return _articles(text for _, text in sorted(topics.items()))


def _articles(texts: Iterable[str]) -> Articles:
    encoded = (text.encode() for text in texts)
    return Articles(tuple(article for article in encoded if len(article) >= MIN_ARTICLE_BYTES))


def _anthology(split: Split) -> Pairs:
    path = files.lra_file(LRA_FILES[split])
    if path is None:
        raise UsageError(f"{files.LRA_VARIABLE}: has no {LRA_FILES[split]}; unpack the whole lra_release.gz")
    lines = files.Lines(path)

    def draw(generator: np.random.Generator) -> Pair:
        number = int(generator.integers(len(lines)))
        columns = lines[number].split(b"\t")
        if len(columns) != 5 or columns[0] not in (b"0.0", b"1.0", b"0", b"1"):
            raise UsageError(
                f"{path}, line {number + 1}: is not a pair (label, two identifiers, two texts, between tabs)"
            )
        return columns[3], columns[4], int(float(columns[0]))

    return Pairs(draw, f"ACL Anthology, {len(lines)} train pairs", len(lines))


WORKLOAD = Retrieval()
