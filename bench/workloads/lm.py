"""Byte-level language modelling: a user's own file, an excerpt of enwiki, or the Python manual.

Byte b is token b + 1, so that 0 stays the padding token.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.workloads.base import Batch, DataSource, Fill, text_of
from bench.workloads.files import decompressed, package_file
from bench.workloads.splits import Split
from bench.workloads.stream import MAX_LENGTH, excerpts, part_of
from implementations.task import Task

VOCABULARY = 257
FILE_VARIABLE = "SEQBOAT_BENCH_LM_FILE"
"""Environment variable that names a file whose bytes to model, such as enwik8."""
ZIP_BEGINS = b"PK\3\4"
ENWIKI = "test/test_data/enwiki-latest-pages-articles*.xml*.bz2"
"""Articles of the English Wikipedia in the package gensim: XML, as enwik8 is."""


@dataclass(frozen=True)
class Corpus:
    """Bytes `(size,)` uint8, and what they are."""

    content: npt.NDArray[np.uint8]
    description: str


class LanguageModelling:
    """enwik8's task: the next byte at every position."""

    name = "lm"
    description = "byte-level language modelling of Wikipedia's XML (next byte)"
    max_length = MAX_LENGTH
    published_length = 8192

    def task(self, length: int) -> Task:
        return Task("enwik8", length=length, classes=VOCABULARY, head="language-model", vocabulary=VOCABULARY)

    def sources(self) -> tuple[DataSource, ...]:
        path, archive = os.environ.get(FILE_VARIABLE) or None, package_file("gensim", ENWIKI)
        return (
            DataSource(
                "a file of your own",
                "real",
                path,
                f"unpack enwik8.zip of mattmahoney.net/dc and name the file in {FILE_VARIABLE}",
            ),
            DataSource(
                "enwiki's XML (gensim)",
                "real",
                None if archive is None else str(archive),
                "pip install 'seqboat-bench[data]'",
            ),
            DataSource("the Python manual", "real", "pydoc_data"),
        )

    def sequences(self, split: Split) -> int | None:
        return None

    def data(self) -> str:
        return source().description

    def batch(
        self, length: int, batch: int, fill: Fill, seed: int, index: int = 0, split: Split = "all"
    ) -> Batch:
        """Excerpts that start anywhere; the targets are one byte ahead. Batches are always full."""
        if not 1 <= length <= MAX_LENGTH:
            raise UsageError(f"lm gives lengths from 1 to {MAX_LENGTH}, not {length}")
        content = part_of(source().content, split)
        if content.size <= length:
            raise UsageError(
                f"lm: {content.size} bytes are too few for a sequence of {length} and its target"
            )
        return excerpts(content, length, batch, seed, index, split)

    def show(self, batch: Batch, row: int = 0) -> str:
        return text_of(batch.inputs[row])


@functools.cache
def source() -> Corpus:
    """The user's file, else enwiki if the extra `data` is installed, else the Python manual."""
    path = os.environ.get(FILE_VARIABLE)
    if path:
        return _file(Path(path))
    archive = package_file("gensim", ENWIKI)
    return _python_manual() if archive is None else _enwiki(archive)


def _file(path: Path) -> Corpus:
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise UsageError(f"{FILE_VARIABLE}={path}: cannot be read ({error})") from None
    if bytes(content[:4]) == ZIP_BEGINS:
        raise UsageError(f"{FILE_VARIABLE}={path}: is a zip archive, whose bytes are not text: unpack it")
    return Corpus(content, f"{path.name}, {content.size} bytes ({FILE_VARIABLE})")


def _enwiki(archive: Path) -> Corpus:
    content = np.frombuffer(decompressed(archive), dtype=np.uint8)
    return Corpus(content, f"enwiki, {content.size} bytes of its XML (gensim)")


def _python_manual() -> Corpus:
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    content = np.frombuffer(text.encode(), dtype=np.uint8)
    return Corpus(
        content,
        f"{content.size} bytes of the Python manual "
        f"(install the extra 'data' for enwiki, or name a file in {FILE_VARIABLE})",
    )


WORKLOAD = LanguageModelling()
