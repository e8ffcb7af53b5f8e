"""`tokens:file.npy` and `text:file.txt`: batches of a user's file, and one line for each that can't be."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from bench import workloads
from bench.cli import app
from bench.errors import UsageError
from bench.workloads import files, own_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("corpus.npy", (np.arange(1000) % 50).astype(np.uint16))
    (tmp_path / "book.txt").write_bytes(bytes(range(256)) * 4)
    return tmp_path


def test_tokens_of_a_file(folder):
    workload = workloads.load("tokens:corpus.npy")
    task = workload.task(16)
    assert (task.head, task.vocabulary, task.classes) == ("language-model", 51, 51)
    batch = workload.batch(16, 3, "full", seed=0)
    assert batch.inputs.dtype == np.int64
    # Token t stands as t + 1; every target is the next token of the file.
    assert np.array_equal(batch.targets - 1, batch.inputs % 50)
    assert np.array_equal(batch.inputs, workload.batch(16, 3, "full", seed=0).inputs)
    assert not np.array_equal(batch.inputs, workload.batch(16, 3, "full", seed=1).inputs)
    assert isinstance(workload.content.base, np.memmap) or isinstance(workload.content, np.memmap)
    assert "corpus.npy, 1000 tokens, vocabulary 50 (sha256 " in workload.data()


def test_the_last_tenth_is_for_validation(folder):
    np.save("rising.npy", np.arange(1000))
    workload = workloads.load("tokens:rising.npy")
    train = workload.batch(10, 50, "full", 0, split="train")
    held_out = workload.batch(10, 50, "full", 0, split="validation")
    assert train.targets.max() <= 900 < held_out.inputs.min()


def test_bytes_of_a_text(folder):
    workload = workloads.load("text:book.txt")
    assert workload.task(8).vocabulary == 257
    batch = workload.batch(8, 2, "full", seed=0)
    assert bytes((batch.inputs[0] - 1).astype(np.uint8)) in (folder / "book.txt").read_bytes()


def test_a_vocabulary_that_is_given(folder):
    workload = workloads.load("tokens:corpus.npy(vocabulary=100)")
    assert workload.task(8).vocabulary == 101
    assert "vocabulary 100, as given" in workload.data()
    with pytest.raises(UsageError, match=r"corpus.npy: holds \d+, which is not in a vocabulary of 4"):
        workloads.load("tokens:corpus.npy(vocabulary=4)").batch(64, 1, "full", seed=0)


def test_a_file_that_changes_is_another(folder):
    before = workloads.load("tokens:corpus.npy").data()
    np.save("corpus.npy", np.arange(1000) % 51)
    assert workloads.load("tokens:corpus.npy").data() != before


def test_a_large_file_is_summed_in_pieces(folder, monkeypatch):
    monkeypatch.setattr(files, "WHOLE_BYTES", 100)
    monkeypatch.setattr(files, "PIECES", 4)
    monkeypatch.setattr(files, "PIECE_BYTES", 16)
    path = folder / "book.txt"
    before = files.fingerprint(path)
    assert before.startswith("sha256 of 4 pieces ")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert files.fingerprint(path) != before


BROKEN = {
    "tokens:absent.npy": "absent.npy: no such file",
    "tokens:~nobody-of-that-name/corpus.npy": "~nobody-of-that-name/corpus.npy: no such file",
    "text:~nobody-of-that-name/a.txt(vocabulary=3)": "~nobody-of-that-name/a.txt: no such file",
    "text:~\0/book.txt": "no such file",
    "tokens:book.txt": "book.txt: is not a NumPy array",
    "tokens:reals.npy": "reals.npy: holds 9 of float64; give whole numbers",
    "tokens:square.npy": "square.npy: holds 3 × 3 of int64",
    "tokens:objects.npy": "objects.npy: is not a NumPy array that can be mapped",
    "tokens:several.npz": "several.npz: holds several arrays",
    "tokens:cut.npz": "cut.npz: is not a NumPy array that can be mapped",
    "tokens:one.npy": "one.npy: holds 1 tokens, too few",
    "text:empty.txt": "empty.txt: cannot be read",
    "tokens:corpus.npy(words=3)": "unknown setting 'words'; known: vocabulary",
    "tokens:corpus.npy(vocabulary=many)": "vocabulary='many': give a whole number",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_is_one_line(folder, name):
    np.save("reals.npy", np.zeros(9))
    np.save("square.npy", np.zeros((3, 3), dtype=np.int64))
    np.save("objects.npy", np.array([{}], dtype=object))
    np.save("one.npy", np.zeros(1, dtype=np.int64))
    np.savez("several.npz", np.zeros(3), np.zeros(3))
    (folder / "cut.npz").write_bytes((folder / "several.npz").read_bytes()[:-30])
    (folder / "empty.txt").touch()
    with pytest.raises(UsageError) as caught:
        workloads.load(name)
    assert BROKEN[name] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_negative_token_is_refused(folder):
    np.save("negative.npy", np.array([3, -1, 2] * 20))
    with pytest.raises(UsageError, match=r"negative.npy: holds the token -1"):
        workloads.load("tokens:negative.npy").task(4)


@pytest.mark.parametrize("words", [("run", "--quick"), ("profile",)])
def test_a_file_that_is_too_short_is_named_before_anything_runs(folder, write_suite, words):
    np.save("short.npy", np.arange(20))
    suite = write_suite("transformer", workload="lm", lengths=[32], hyperparameters="small")
    option = ["--impl", "transformer"] if words[0] == "profile" else []
    ran = CliRunner().invoke(app, [*words, "--suite", suite, *option, "--workload", "tokens:short.npy"])
    assert str(ran.exception).endswith("tokens:short.npy has at most 19 time steps, not 32")


def test_bench_data_shows_a_file(folder):
    ran = CliRunner().invoke(app, ["data", "tokens:corpus.npy", "--length", "64", "--json"])
    assert ran.exit_code == 0, ran.output
    sheet = json.loads(ran.output)
    assert sheet["statistics"]["distinct_tokens"] == 50
    assert sheet["sources"][0]["location"].endswith("corpus.npy")
    assert own_files.is_own_file(sheet["name"])
