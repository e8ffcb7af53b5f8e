"""The store: what is written is there, what is torn is dropped, what is wrong is said in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench.errors import ResultError
from bench.records.environment import Environment
from bench.records.reading import json_schema, read
from bench.records.run import SCHEMA, End, Header, Sample
from bench.records.solo import Solo
from bench.records.writing import ResultFile
from bench.suites import reading as suites

ENVIRONMENT = Environment(
    device="cpu", hardware="a processor", processor="a processor", threads=2, memory_bytes=8 << 30,
    driver=None, cuda=None, torch="2.13.0", python="3.11.7", platform="Linux", libraries={}, commit=None,
    dirty=None, load_average=0.0,
)  # fmt: skip


def header() -> Header:
    return Header(
        schema=SCHEMA,
        created="2026-01-01T00:00:00+00:00",
        command=["bench", "run"],
        suite=suites.load("ci"),
        environment=ENVIRONMENT,
        data="made up",
    )


def sample(number: int) -> Sample:
    return Sample(case_id="a/case", block=0, group=0, round=number, visit=0, position=0, steps=3, seconds=0.3)


@pytest.fixture
def written(tmp_path) -> Path:
    path = tmp_path / "run.jsonl"
    with ResultFile(path) as store:
        store.append(header())
        store.append(Solo(case=suites.load("ci").cases("cpu")[0], status="ok", step_seconds=0.1))
        for number in range(3):
            store.append(sample(number))
    return path


def test_what_is_written_is_read(written):
    results = read(written)
    assert results.header == header()
    assert results.samples == [sample(number) for number in range(3)]
    assert results.end is None
    assert results.notice is None
    assert results.samples[0].step_seconds == pytest.approx(0.1)


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_torn_last_line_is_dropped_with_a_notice(written, cut):
    whole = written.read_bytes()
    written.write_bytes(whole[:-cut])
    results = read(written)
    assert len(results.samples) == 2
    assert "torn last line" in results.notice
    with ResultFile(written, resume=True) as store:
        store.append(sample(2))
    assert written.read_bytes() == whole
    assert read(written).notice is None


def test_a_resumed_run_took_the_time_of_its_parts(written):
    for reason, seconds in (("budget", 60.0), ("blocks", 20.0)):
        with ResultFile(written, resume=True) as store:
            store.append(End(reason=reason, seconds=seconds))
    assert read(written).end == End(reason="blocks", seconds=80.0)
    with ResultFile(written, resume=True) as store:
        store.append(sample(3))
    assert read(written).end is None  # killed later


def test_a_broken_line_inside_names_its_number(written):
    lines = written.read_bytes().splitlines(keepends=True)
    written.write_bytes(b"".join([*lines[:2], lines[2][: len(lines[2]) // 2] + b"\n", *lines[3:]]))
    with pytest.raises(ResultError, match="line 3 is not a record"):
        read(written)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not begin with a header"),
        (b'{"type":"end","reason":"blocks","seconds":1.0}\n', "does not begin with a header"),
        (b"\x89PNG\r\n\x1a\n", "line 1 is not a record"),
        (b'{"type":"header"}\n', "line 1 is not a record"),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ResultError, match=words) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_another_schema(tmp_path, written):
    with pytest.raises(ResultError, match="cannot be read"):
        read(tmp_path / "none.jsonl")
    raw = json.loads(written.read_bytes().splitlines()[0])
    written.write_text(json.dumps({**raw, "schema": SCHEMA + 1}) + "\n")
    with pytest.raises(ResultError, match=f"schema {SCHEMA + 1}"):
        read(written)


def test_a_full_disk_is_one_line_and_keeps_what_was_written(tmp_path):
    """/dev/full takes nothing: the first record fails as the last one on a full disk would."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("wb", buffering=0) as full, ResultFile(tmp_path / "run.jsonl") as store:
        store._file.close()
        store._file = full
        with pytest.raises(ResultError, match="No space left") as caught:
            store.append(End(reason="blocks", seconds=1.0))
    assert "record 1 could not be written" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_read_only_folder_is_one_line(tmp_path):
    folder = tmp_path / "file"
    folder.write_text("in the way")
    with pytest.raises(ResultError, match="cannot be written"):
        ResultFile(folder / "run.jsonl")


def test_records_survive_a_process_that_is_killed_at_once(tmp_path):
    path = tmp_path / "run.jsonl"
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from bench.records.run import End\n"
        "from bench.records.writing import ResultFile\n"
        f"store = ResultFile(Path({str(path)!r}))\n"
        "store.append(End(reason='blocks', seconds=1.0))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ})
    assert msgspec.json.decode(path.read_bytes(), type=End) == End(reason="blocks", seconds=1.0)


def test_the_json_schema_accepts_what_is_written(written):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    for line in written.read_bytes().splitlines():
        validator.validate(json.loads(line))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"type": "sample", "seconds": "long"})


def test_the_schema_in_the_docs_is_current():
    path = Path(__file__).parents[3] / "docs" / "result-schema.json"
    assert json.loads(path.read_text()) == json.loads(msgspec.json.encode(json_schema())), (
        "run: python -m bench.records.reading > docs/result-schema.json"
    )
