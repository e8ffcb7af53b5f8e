"""`bench data`: sources, statistics and a sample of every workload, as text and as JSON."""

import json
import struct
import zlib

import numpy as np
import pytest
from typer.testing import CliRunner

from bench import workloads
from bench.cli import app
from bench.errors import UsageError
from bench.workloads import sheet as datasets

LENGTHS = {"image": 256, "pathfinder": 256, "path-x": 4096}


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["data", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_every_workload_has_a_sheet(name):
    length = str(LENGTHS.get(name, 512))
    found = json.loads(run(name, "--length", length, "--sequences", "4", "--json"))
    assert found["name"] == name
    assert found["length"] == int(length)
    assert [source["used"] for source in found["sources"]].count(True) == 1
    assert all(source["location"] or source["obtain"] for source in found["sources"])
    assert found["data"] == workloads.load(name).data()
    assert found["statistics"]["sequences"] == 4
    labels = found["statistics"].get("labels")
    if name == "lm":
        assert labels is None
    else:
        assert sum(labels.values()) == pytest.approx(1, abs=0.01)
        assert found["statistics"]["majority_baseline"] == max(labels.values())


def test_text_says_what_is_missing_and_how_to_get_it(monkeypatch):
    monkeypatch.delenv("SEQBOAT_BENCH_SPEECH_COMMANDS", raising=False)
    text = run("speech", "--sequences", "2")
    assert "data: synthetic" in text
    assert "missing; to get it: unpack speech_commands" in text
    assert "at length 16000" in text


def test_true_lengths_are_those_of_the_batch():
    sheet = datasets.describe("listops", length=600, sequences=20)
    lengths = workloads.load("listops").batch(600, 20, "real", 0).lengths
    assert sheet.statistics["true_lengths"]["max"] == lengths.max()
    assert sheet.statistics["true_lengths"]["median"] == int(np.median(lengths))
    assert sheet.statistics["real_share"] == pytest.approx(lengths.mean() / 600, abs=1e-4)


def test_long_samples_are_cut():
    sheet = datasets.describe("listops", sequences=1)
    assert max(map(len, datasets.as_text(sheet).splitlines())) < 500 < len(sheet.sample)


def test_pictures_are_png_files_of_a_dozen_samples(tmp_path):
    path = tmp_path / "samples.png"
    run("pathfinder", "--length", "256", "--sequences", "1", "--picture", str(path))
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    begin = content.index(b"IDAT")
    size = struct.unpack(">I", content[begin - 4 : begin])[0]
    rows = np.frombuffer(zlib.decompress(content[begin + 4 : begin + 4 + size]), np.uint8)
    pixels = rows.reshape(height, width + 1)[:, 1:]
    assert (height, width) == (2 * 132, 6 * 132)
    first = workloads.load("pathfinder").batch(256, 12, "full", 0).inputs[0].reshape(16, 16)
    assert np.array_equal(pixels[8:132:8, 8:132:8] == 255, first == first.max())


def test_workloads_without_pictures_say_so():
    with pytest.raises(UsageError, match="speech has no pictures"):
        datasets.picture("speech")
