"""Retrieval: pairs of documents of one article or of two, or those of the ACL Anthology."""

import bz2
import importlib.machinery
import re

import numpy as np
import pytest

from bench.errors import UsageError
from bench.workloads import files, retrieval
from bench.workloads.retrieval import WORKLOAD

ARTICLES = 12


def article(number: int) -> str:
    """Its lines name it and their place, so that a half says where it is from."""
    return "".join(f"article {number} line {line} &amp; more\n" for line in range(100 + 10 * number))


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.delenv(files.LRA_VARIABLE, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    retrieval._pairs.cache_clear()
    yield
    retrieval._pairs.cache_clear()


def enwiki(tmp_path, monkeypatch, content: bytes) -> None:
    folder = tmp_path / "gensim" / "test" / "test_data"
    folder.mkdir(parents=True)
    (folder / "enwiki-latest-pages-articles1.xml-p1p2-shortened.bz2").write_bytes(content)
    spec = importlib.machinery.ModuleSpec("gensim", None, origin=str(tmp_path / "gensim" / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)


@pytest.fixture
def dump(tmp_path, monkeypatch):
    pages = [
        f'<page><text xml:space="preserve">{article(number)}</text></page>' for number in range(ARTICLES)
    ]
    stub = "<page><text>#REDIRECT [[elsewhere]]</text></page>"
    enwiki(tmp_path, monkeypatch, bz2.compress("\n".join([stub, *pages]).encode()))


def document(tokens) -> str:
    return bytes((tokens[tokens > 0] - 1).astype(np.uint8)).decode()


def test_related_documents_are_halves_of_one_article(dump):
    assert WORKLOAD.data() == f"halves of {ARTICLES} enwiki articles (gensim)"
    batch = WORKLOAD.batch(8000, 40, "real", seed=0)
    for pair, target in zip(batch.inputs, batch.targets, strict=True):
        first, second = (re.findall(r"article (\d+) line (\d+) & more\n", document(side)) for side in pair)
        owners = {name for name, _ in first}, {name for name, _ in second}
        assert len(owners[0]) == len(owners[1]) == 1
        assert (owners[0] == owners[1]) == bool(target)
        assert first[0][1] == "0"
        if target:
            assert int(second[0][1]) == int(first[-1][1]) + 1
    assert 10 < batch.targets.sum() < 30


@pytest.mark.parametrize("source", ["enwiki", "manual"])
def test_full_documents_go_on_with_further_ones(request, source):
    if source == "enwiki":
        request.getfixturevalue("dump")
    batch = WORKLOAD.batch(50_000, 2, "full", seed=0)
    assert batch.lengths is None
    assert batch.inputs.min() >= 1
    assert batch.tokens == batch.real_tokens == 2 * 2 * 50_000
    assert ("manual" in WORKLOAD.data()) == (source == "manual")


def test_a_broken_dump_says_so(tmp_path, monkeypatch):
    enwiki(tmp_path, monkeypatch, b"no archive")
    with pytest.raises(UsageError, match="reinstall"):
        WORKLOAD.data()


def anthology(tmp_path, monkeypatch, content: bytes) -> None:
    folder = tmp_path / "lra_release" / "tsv_data"
    folder.mkdir(parents=True)
    (folder / "new_aan_pairs.train.tsv").write_bytes(content)
    monkeypatch.setenv(files.LRA_VARIABLE, str(tmp_path))


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_the_anthology_is_read_from_the_lra_folder(tmp_path, monkeypatch, end):
    rows = [b"1.0\tA1\tA2\tfirst paper\tits source", b"0.0\tA3\tA4\tan other\tnot related"]
    anthology(tmp_path, monkeypatch, b"\r\n".join(rows) + end)
    assert WORKLOAD.data() == "ACL Anthology, 2 train pairs"
    batch = WORKLOAD.batch(20, 12, "real", seed=0)
    seen = {
        (document(pair[0]), document(pair[1]), int(target))
        for pair, target in zip(batch.inputs, batch.targets, strict=True)
    }
    assert seen == {("first paper", "its source", 1), ("an other", "not related", 0)}


def test_a_broken_table_is_one_clear_line(tmp_path, monkeypatch):
    anthology(tmp_path, monkeypatch, b"maybe\ta\tb\tc\td\n")
    with pytest.raises(UsageError, match=r"line 1: is not a pair"):
        WORKLOAD.batch(20, 1, "real", seed=0)


def test_lines_by_number_across_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SCAN_BYTES", 5)
    lines = [b"", b"one", b"", b"a longer line than a piece", b"end"]
    for ending in (b"", b"\n"):
        path = tmp_path / "lines"
        path.write_bytes(b"\n".join(lines) + ending)
        found = files.Lines(path)
        assert [found[number] for number in range(len(found))] == lines
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be read"):
        files.Lines(path)
