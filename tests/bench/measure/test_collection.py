"""A collection's folder: what it holds is shown as this run's only if it is."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from bench.errors import UsageError
from bench.measure import collection, session
from bench.measure.header import make_header
from bench.measure.request import Request, load_suite
from bench.records.run import End
from bench.records.writing import ResultFile
from bench.suites import collection as suite_collections
from bench.suites.collection import Collection

from ..made_up import CPU


@pytest.fixture
def both(tmp_path: Path) -> Collection:
    """A collection of two suites, which lie beside it."""
    for name, length in (("one", 32), ("two", 64)):
        (tmp_path / f"{name}.yaml").write_text(f"extends: ci\nlengths: [{length}]\n")
    path = tmp_path / "both.yaml"
    path.write_text("description: two\nsuites: [one.yaml, two.yaml]\nbaseline: transformer\n")
    found = suite_collections.load(str(path))
    assert found is not None
    return found


@pytest.fixture
def request_of_both(tmp_path: Path, monkeypatch) -> Request:
    """What begins the folder `runs`; any measurement fails."""
    monkeypatch.setattr(session, "probe_environment", lambda device, threads: CPU)
    monkeypatch.setattr(session, "run", lambda *words, **options: pytest.fail("something was measured"))
    command = ["bench", "run", "--suite", "both.yaml"]
    return Request(suite="both.yaml", out=tmp_path / "runs", device="cpu", quiet=True, command=command)


@pytest.fixture
def resumed(both: Collection, request_of_both: Request) -> Request:
    """What resumes the folder, in which both suites went to their end."""
    folder = request_of_both.out
    for file in both.files:
        part = collection._part(file, both, request_of_both, folder)
        with ResultFile(part.out) as record:
            record.append(make_header(load_suite(part), CPU))
            record.append(End(reason="precise", seconds=1.0))
    return replace(request_of_both, resume=folder)


def test_what_went_to_its_end_is_kept(both, resumed):
    assert [run.header.suite.name for run in collection.run(both, resumed).runs] == ["one", "two"]


def test_a_folder_that_holds_runs_is_continued_only_by_name(both, resumed):
    words = f"one.jsonl: exists already; continue with --resume {resumed.out}, or choose another --out"
    with pytest.raises(UsageError, match=words):
        collection.run(both, replace(resumed, resume=None))


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("reason", ["precise", "interrupted"])
def test_other_settings_are_another_run(both, resumed, number, reason):
    """Whichever suite they are of, and before the first is measured."""
    path = resumed.out / f"{both.files[number].path.stem}.jsonl"
    path.write_text(path.read_text().replace('"seed":0', '"seed":1').replace("precise", reason))
    with pytest.raises(UsageError, match=f"{path.name}: was made by another suite"):
        collection.run(both, resumed)


def test_another_machine_and_another_source_are_another_run(both, resumed, monkeypatch):
    with monkeypatch.context() as patch:
        faster = msgspec.structs.replace(CPU, hardware="a faster one")
        patch.setattr(session, "probe_environment", lambda device, threads: faster)
        with pytest.raises(UsageError, match="comes from another machine"):
            collection.run(both, resumed)
    monkeypatch.setattr("bench.measure.header.harness_digest", lambda: "0123456789abcdef")
    with pytest.raises(UsageError, match="was made before this harness changed"):
        collection.run(both, resumed)
