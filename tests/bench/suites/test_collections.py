"""The files of a collection: beside it, each with a name of its own."""

from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.suites import collection


@pytest.fixture
def write(tmp_path: Path):
    """A collection of suites in folders below its own."""

    def write(*suites: str) -> str:
        for name in ("text.yaml", "a/text.yaml", "b/text.yaml"):
            path = tmp_path / "mine" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("extends: ci\n")
        path = tmp_path / "mine" / "both.yaml"
        path.write_text(f"description: two\nsuites: [{', '.join(suites)}]\nbaseline: transformer\n")
        return str(path)

    return write


def test_paths_start_from_the_collections_folder(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = collection.load(write("ci", "a/text.yaml"))
    assert [file.path.stem for file in found.files] == ["ci", "text"]
    assert found.files[1].path.samefile("mine/a/text.yaml")


@pytest.mark.parametrize(
    ("suites", "words"),
    [
        (["a/text.yaml", "b/text.yaml"], "a/text.yaml: another one is called text, too"),
        (["ci", "ci"], "ci: another one is called ci, too"),
        (["ci", "none.yaml"], "none.yaml: no such suite file"),
        (["cii"], "unknown suite 'cii'; did you mean 'ci'"),
    ],
)
def test_what_is_wrong_names_the_collection_and_the_suite(write, suites, words):
    path = write(*suites)
    with pytest.raises(UsageError) as caught:
        collection.load(path)
    assert str(caught.value).startswith(f"{path}: `suites`: {words}")
