"""Batches for language models: excerpts of real bytes, each target the next byte."""

import bz2
import importlib.machinery

import numpy as np
import pytest

from bench.errors import UsageError
from bench.workloads import lm, load
from bench.workloads.files import package_file

WORKLOAD = load("lm")
ARTICLE = b"<page><title>AccessibleComputing</title></page>\n" * 40


@pytest.fixture(autouse=True)
def no_file(monkeypatch):
    monkeypatch.delenv(lm.FILE_VARIABLE, raising=False)
    lm.source.cache_clear()
    yield
    lm.source.cache_clear()


def package(tmp_path, monkeypatch, archive: bytes | None) -> None:
    """A package gensim with or without the archive, which need not be installed."""
    folder = tmp_path / "gensim" / "test" / "test_data"
    folder.mkdir(parents=True)
    if archive is not None:
        (folder / "enwiki-latest-pages-articles1.xml-p1p2-shortened.bz2").write_bytes(archive)
    spec = importlib.machinery.ModuleSpec("gensim", None, origin=str(tmp_path / "gensim" / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)


@pytest.fixture(params=["enwiki", "manual", "file"])
def source(request, tmp_path, monkeypatch):
    """Each test runs on each source, with what it must contain."""
    if request.param == "enwiki":
        package(tmp_path, monkeypatch, bz2.compress(ARTICLE))
    elif request.param == "manual":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    else:
        path = tmp_path / "enwik8"
        path.write_bytes(bytes(range(256)) * 8)
        monkeypatch.setenv(lm.FILE_VARIABLE, str(path))
    return request.param


def content() -> bytes:
    return lm.source().content.tobytes()


def test_states_its_data(source):
    words = {
        "enwiki": f"enwiki, {len(ARTICLE)} bytes",
        "manual": "bytes of the Python manual",
        "file": f"enwik8, 2048 bytes ({lm.FILE_VARIABLE})",
    }
    assert words[source] in WORKLOAD.data()


def test_inputs_and_targets_are_one_excerpt(source):
    batch = WORKLOAD.batch(200, 4, "full", seed=0)
    assert batch.inputs.shape == batch.targets.shape == (4, 200)
    assert batch.inputs.dtype == batch.targets.dtype == np.int64
    assert batch.lengths is None
    for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
        excerpt = np.append(inputs, targets[-1])
        assert np.array_equal(targets, excerpt[1:])
        assert bytes((excerpt - 1).astype(np.uint8)) in content()
    assert len({bytes(row) for row in batch.inputs}) == 4


def test_batches_are_deterministic(source):
    first, again = (WORKLOAD.batch(64, 3, "full", seed=1, index=2) for _ in range(2))
    assert np.array_equal(first.inputs, again.inputs)
    assert np.array_equal(first.targets, again.targets)
    for seed, index in ((1, 3), (2, 2)):
        assert not np.array_equal(first.inputs, WORKLOAD.batch(64, 3, "full", seed, index).inputs)


def test_every_byte_may_be_drawn(tmp_path, monkeypatch):
    path = tmp_path / "short"
    path.write_bytes(b"abcd")
    monkeypatch.setenv(lm.FILE_VARIABLE, str(path))
    batch = WORKLOAD.batch(2, 100, "real", seed=0)
    assert set(batch.inputs[:, 0] - 1) == set(b"ab")
    assert set(batch.targets[:, -1] - 1) == set(b"cd")
    assert set(WORKLOAD.batch(3, 5, "full", seed=0).inputs[:, 0] - 1) == set(b"a")
    with pytest.raises(UsageError, match="4 bytes are too few"):
        WORKLOAD.batch(4, 1, "full", seed=0)


def test_the_task_is_a_causal_language_model_over_tokens():
    task = WORKLOAD.task(128)
    assert (task.name, task.head, task.causal) == ("enwik8", "language-model", True)
    assert task.classes == task.vocabulary == 257


def test_the_longest_sequence_comes_even_from_the_manual(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert WORKLOAD.batch(WORKLOAD.max_length, 1, "full", seed=0).inputs.min() >= 1
    for length in (0, WORKLOAD.max_length + 1):
        with pytest.raises(UsageError, match="lengths from 1"):
            WORKLOAD.batch(length, 1, "full", seed=0)


def test_the_enwiki_excerpt_is_the_known_one():
    if package_file("gensim", lm.ENWIKI) is None:
        pytest.skip("the extra 'data' is not installed")
    assert len(content()) == 6_089_746
    assert len(set(content())) == 201


def test_data_that_cannot_be_read(tmp_path, monkeypatch):
    package(tmp_path, monkeypatch, b"no archive")
    with pytest.raises(UsageError, match="cannot be read"):
        WORKLOAD.data()
    for name in ("absent", "empty"):
        monkeypatch.setenv(lm.FILE_VARIABLE, str(tmp_path / name))
        (tmp_path / "empty").touch()
        with pytest.raises(UsageError, match=f"{lm.FILE_VARIABLE}=.*{name}: cannot be read"):
            WORKLOAD.data()


def test_a_gensim_without_the_archive_leaves_the_manual(tmp_path, monkeypatch):
    package(tmp_path, monkeypatch, None)
    assert "Python manual" in WORKLOAD.data()
