"""Speech: clips of one second from the user's folder, or gliding vowels that are called synthetic."""

import wave

import numpy as np
import pytest

from bench.errors import UsageError
from bench.workloads import speech
from bench.workloads.speech import RATE, WORDS, WORKLOAD


@pytest.fixture(autouse=True)
def no_folder(monkeypatch):
    monkeypatch.delenv(speech.FOLDER_VARIABLE, raising=False)
    speech.clips.cache_clear()
    yield
    speech.clips.cache_clear()


def clip(path, samples=RATE, rate=RATE, channels=1, level=0) -> None:
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(np.broadcast_to(np.asarray(level, dtype="<i2"), samples).tobytes())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A clip a word, as loud as the word's number says, and clips of other words and lengths."""
    for number, word in enumerate(WORDS):
        clip(tmp_path / word / "a.wav", level=1000 * number)
        clip(tmp_path / word / "short.wav", samples=RATE - 1)
    clip(tmp_path / "marvin" / "a.wav")
    monkeypatch.setenv(speech.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def test_clips_of_one_second_of_the_ten_words(folder):
    assert WORKLOAD.data() == "Speech Commands, 10 clips of ten words"
    batch = WORKLOAD.batch(RATE, 30, "full", seed=0)
    assert batch.inputs[:, 0] == pytest.approx(batch.targets * 1000 / 32768)
    assert len(set(batch.targets)) > 5


@pytest.mark.parametrize(
    "form",
    [{"rate": 8000}, {"samples": RATE, "channels": 2}],
)
def test_clips_of_another_form_are_refused(folder, form):
    for word in WORDS:
        clip(folder / word / "a.wav", **form)
    with pytest.raises(UsageError, match="is not one second of 16-bit mono sound"):
        WORKLOAD.batch(RATE, 1, "full", seed=0)


def test_a_clip_that_is_no_sound(folder):
    for word in WORDS:
        (folder / word / "a.wav").write_bytes(bytes(44 + 2 * RATE))
    with pytest.raises(UsageError, match="cannot be read"):
        WORKLOAD.batch(RATE, 1, "full", seed=0)


def test_a_word_without_clips(folder):
    (folder / "stop" / "a.wav").unlink()
    with pytest.raises(UsageError, match="no clips of one second in stop/"):
        WORKLOAD.data()


def test_vowels_are_synthetic_and_differ_by_class():
    assert WORKLOAD.data().startswith("synthetic")
    batch = WORKLOAD.batch(RATE, 60, "full", seed=0)
    assert np.abs(batch.inputs).max() <= 1
    # The class is in where the formants are early and late; its nearest neighbour knows it.
    halves = batch.inputs.reshape(60, 2, -1)
    spectra = np.abs(np.fft.rfft(halves)[..., :1500]).reshape(60, 2, 15, -1).mean(-1)
    spectra = (spectra / spectra.sum(axis=-1, keepdims=True)).reshape(60, -1)
    distances = np.linalg.norm(spectra[:, None] - spectra, axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (batch.targets[distances.argmin(axis=1)] == batch.targets).mean() > 0.5


def test_shorter_ones_are_the_middle(folder):
    for word in WORDS:
        clip(folder / word / "a.wav", level=np.arange(RATE))
    batch = WORKLOAD.batch(100, 1, "full", seed=0)
    assert batch.inputs[0] * 32768 == pytest.approx(np.arange(7950, 8050))
