"""Raw speech: which of ten words is said in one second of sound, sample by sample (10 classes).

Read from the user's own folder of Google's Speech Commands (Warden 2018, arXiv 1804.03209): clips of exactly
16,000 samples of the ten words, as the published pipelines take them. Else two-formant vowels that glide as
their class says, which are not speech.
"""

import functools
import math
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.workloads import files
from bench.workloads.base import Batch, DataSource, Fill
from bench.workloads.splits import Split, Splittable, generator_of
from implementations.task import Task

FOLDER_VARIABLE = "SEQBOAT_BENCH_SPEECH_COMMANDS"
"""Environment variable that names the folder of Speech Commands, with a folder per word."""
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
RATE = 16_000
"""Samples per second, and per clip."""
HEADER_BYTES, SAMPLE_BYTES = 44, 2

HARMONICS = 24
SHORTEST = 16

Reals = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Clips(Splittable):
    """Sound files and the classes of their words `(clips,)`."""

    paths: tuple[Path, ...]
    labels: npt.NDArray[np.int64]

    def keys(self) -> Iterable[bytes]:
        """The speaker, whom a file's name begins with: all clips of one are in the same part."""
        return (path.name.partition("_nohash_")[0].encode() for path in self.paths)

    def take(self, numbers: npt.NDArray[np.int64]) -> "Clips":
        return Clips(tuple(self.paths[number] for number in numbers), self.labels[numbers])


class Speech:
    """Speech Commands, ten words, raw."""

    name = "speech"
    description = "which of ten words is said, from raw samples at 16 kHz (10 classes)"
    max_length = RATE
    published_length = RATE

    def task(self, length: int) -> Task:
        return Task("speech", length=length, classes=len(WORDS), input="reals")

    def sources(self) -> tuple[DataSource, ...]:
        folder = files.user_folder(FOLDER_VARIABLE)
        return (
            DataSource(
                "Speech Commands",
                "real",
                None if folder is None else str(folder),
                "unpack speech_commands_v0.02.tar.gz of download.tensorflow.org/data "
                f"and name its folder in {FOLDER_VARIABLE}",
            ),
            DataSource("vowels", "synthetic", "built in"),
        )

    def sequences(self, split: Split) -> int | None:
        source = clips()
        return None if source is None else len(source.part(split).paths)

    def data(self) -> str:
        source = clips()
        if source is None:
            return "synthetic (gliding vowels; `bench data speech` says how to get speech)"
        return f"Speech Commands, {len(source.paths)} clips of ten words"

    def batch(
        self, length: int, batch: int, fill: Fill, seed: int, index: int = 0, split: Split = "all"
    ) -> Batch:
        """Samples from -1 to 1; below 16,000, those in the middle of the clip. Batches are always full."""
        if not SHORTEST <= length <= RATE:
            raise UsageError(f"speech gives lengths from {SHORTEST} to {RATE} samples, not {length}")
        generator = generator_of(seed, index, length, split)
        source = clips()
        if source is None:
            labels = generator.integers(len(WORDS), size=batch)
            sounds = [_vowel(int(label), generator) for label in labels]
        else:
            source = source.part(split)
            chosen = generator.integers(len(source.paths), size=batch)
            labels = source.labels[chosen]
            sounds = [_read(source.paths[int(clip)]) for clip in chosen]
        begin = (RATE - length) // 2
        inputs = np.stack(sounds)[:, begin : begin + length].astype(np.float32)
        return Batch(inputs=inputs, lengths=None, targets=labels)

    def show(self, batch: Batch, row: int = 0) -> str:
        """Loudness over time, and the word."""
        bars = " ▁▂▃▄▅▆▇█"
        parts = np.array_split(np.abs(batch.inputs[row]), 64)
        loudness = np.array([part.max() for part in parts])
        levels = (loudness / max(float(loudness.max()), 1e-12) * (len(bars) - 1)).round().astype(int)
        return f"{''.join(bars[level] for level in levels)}  {WORDS[int(batch.targets[row])]}"


@functools.cache
def clips() -> Clips | None:
    """The clips of the user's folder; None if none is named. Raises UsageError if words are missing."""
    folder = files.user_folder(FOLDER_VARIABLE)
    if folder is None:
        return None
    size = HEADER_BYTES + RATE * SAMPLE_BYTES
    found = {
        word: sorted(path for path in (folder / word).glob("*.wav") if path.stat().st_size == size)
        for word in WORDS
    }
    for word, paths in found.items():
        if not paths:
            raise UsageError(f"{FOLDER_VARIABLE}={folder}: has no clips of one second in {word}/")
    labels = [label for label, word in enumerate(WORDS) for _ in found[word]]
    return Clips(tuple(path for word in WORDS for path in found[word]), np.array(labels, dtype=np.int64))


def _read(path: Path) -> Reals:
    try:
        with wave.open(str(path), "rb") as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes())
            content = file.readframes(RATE)
    except (OSError, EOFError, wave.Error) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None
    if form != (1, SAMPLE_BYTES, RATE, RATE):
        raise UsageError(f"{path}: is not one second of 16-bit mono sound at 16 kHz")
    samples: Reals = np.frombuffer(content, dtype="<i2").astype(np.float32) / np.float32(1 << 15)
    return samples


def _vowel(label: int, generator: np.random.Generator) -> Reals:
    """Harmonics of a voice under two formants that glide from and to places of the class, with breath."""
    time = np.arange(RATE) / RATE
    places = np.random.default_rng(label).uniform((300, 900), (900, 2600), size=(2, 2))
    formants = places[0, :, None] + (places[1] - places[0])[:, None] * time
    pitch = generator.uniform(90, 250) * (1 + 0.1 * generator.normal() * time)
    phase = 2 * math.pi * np.cumsum(pitch) / RATE
    order = np.arange(1, HARMONICS + 1)[:, None]
    strength = (1 / (1 + np.square((order * pitch - formants[:, None]) / 120))).sum(axis=0)
    begin, duration = generator.uniform(0.05, 0.35), generator.uniform(0.3, 0.6)
    envelope = np.sin(math.pi * ((time - begin) / duration).clip(0, 1)) ** 2
    voice = (strength * np.sin(order * phase)).sum(axis=0) * envelope
    breath = 0.005 * generator.normal(size=RATE)
    sound: Reals = (0.5 * voice / np.abs(voice).max() + breath).astype(np.float32)
    return sound


WORKLOAD = Speech()
