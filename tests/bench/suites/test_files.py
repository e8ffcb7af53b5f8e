"""A suite may extend another, with what it changes."""

import json
from typing import NoReturn

import pytest
import yaml
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import UsageError
from bench.measure import session
from bench.measure.request import Request, load_suite
from bench.suites import files
from bench.suites import reading as suites
from implementations.yaml_files import read_yaml


@pytest.fixture
def write(tmp_path):
    def write(file, **keys):
        path = tmp_path / f"{file}.yaml"
        path.write_text(yaml.safe_dump(keys))
        return str(path)

    return write


def test_an_extension_has_all_of_its_base_but_what_it_changes_and_the_name(write):
    base = suites.load("ci")
    mine = suites.load(write("mine", extends="ci", lengths=[64], timing={"budget": "9s"}))
    assert (mine.name, mine.lengths) == ("mine", (64,))
    assert (mine.implementations, mine.batch) == (base.implementations, base.batch)
    assert mine.timing.budget == "9s"
    assert mine.timing.max_blocks == base.timing.max_blocks  # mappings are merged key by key


def test_files_extend_files_beside_them_wherever_we_are(write):
    write("base", extends="ci", name="another", lengths=[32])
    mine = suites.load(write("mine", extends="base.yaml", description="mine"))
    assert (mine.name, mine.lengths, mine.description) == ("mine", (32,), "mine")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"extends": "co"}, ["`extends`: unknown suite 'co'"]),
        ({"extends": "lra-text-4q"}, ["did you mean 'lra-text-4k'"]),
        ({"extends": "none.yaml"}, ["`extends`: none.yaml: no such suite file"]),
        ({"extends": ["ci"]}, ["`extends`: give one suite's name"]),
        ({"extends": None}, ["`extends`: give one suite's name"]),
        ({"extends": "lra"}, ["one of these is a collection"]),
        ({"extends": "ci", "suites": ["ci"]}, ["one of these is a collection"]),
        ({"extends": "mine.yaml"}, ["goes round in a circle (mine.yaml → mine.yaml)"]),
        ({"extends": "other.yaml"}, ["goes round in a circle (mine.yaml → other.yaml → mine.yaml)"]),
        ({"extends": "ci", "lenghts": [64]}, ["unknown field `lenghts`"]),
    ],
)
def test_what_can_not_be_extended_is_one_line(write, keys, words):
    write("other", extends="mine.yaml")
    path = write("mine", **keys)
    with pytest.raises(UsageError) as caught:
        suites.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert "mine.yaml" in message.partition(": ")[0] or "other.yaml" in message.partition(": ")[0]
    for word in words:
        assert word in message


def test_the_list_shows_the_resolved_form(write):
    path = write("mine", extends="ci", lengths=[64])
    result = CliRunner().invoke(app, ["list", "suites", path, "--json"])
    (row,) = json.loads(result.stdout)
    assert row["name"] == "mine"
    assert row["resolved"]["lengths"] == [64]
    assert row["resolved"]["hyperparameters"] == "matched"  # of ci
    assert "extends" not in row["resolved"]
    assert "resolved" not in CliRunner().invoke(app, ["list", "suites", path]).stdout


def test_a_collection_is_listed_with_its_keys_alone():
    listed = CliRunner().invoke(app, ["list", "suites", "lra", "--json"])
    (row,) = json.loads(listed.stdout)
    assert set(row["resolved"]) == {"name", "description", "suites", "baseline"}


@pytest.mark.parametrize(("name", "count"), [("ci", 1), ("lra", 7)])
def test_a_run_reads_each_file_once(monkeypatch, tmp_path, name, count):
    def stop(request: Request, resumed_by: object = None) -> NoReturn:
        load_suite(request)
        raise UsageError("stops here")

    read: list[str] = []
    monkeypatch.setattr(files, "read_yaml", lambda path: read.append(path.stem) or read_yaml(path))
    monkeypatch.setattr(session, "run", stop)
    result = CliRunner().invoke(app, ["run", "--suite", name, "--out", str(tmp_path / "run.jsonl")])
    assert str(result.exception) == "stops here"
    assert len(read) == len(set(read)) == count
