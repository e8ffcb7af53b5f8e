"""The commands that show results: they write what they say, and whatever is wrong is one line."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import UsageError

from ..in_process import bench
from ..made_up import results, write


@pytest.fixture
def files(tmp_path):
    short, long = results(lengths=[1024], path="1k.jsonl"), results(lengths=[4096], path="4k.jsonl")
    return [str(write(short, tmp_path)), str(write(long, tmp_path))]


def test_several_files_are_one_table(files):
    rows = json.loads(bench("table", *files, "--json").stdout)
    assert [row["length"] for row in rows] == [1024] * 5 + [4096] * 5
    text = bench("table", *files, "--published", "--baseline", "seqboat").stdout
    assert "ListOps" in text
    assert "(× SeqBoat)" in text


def test_plot_and_report_write_their_files(files, tmp_path):
    pytest.importorskip("altair", reason='needs pip install "seqboat-bench[report]"')
    pytest.importorskip("vl_convert", reason='needs pip install "seqboat-bench[report]"')
    assert bench("plot", *files, "-o", "growth.svg", cwd=tmp_path).returncode == 0
    assert "Transformer L^2.00" in " ".join((tmp_path / "growth.svg").read_text().split())
    assert bench("report", *files, "-o", "page.html", cwd=tmp_path).returncode == 0
    assert "1k.jsonl" in (tmp_path / "page.html").read_text()


def test_pictures_and_pages_take_other_titles_and_keep_the_looks(files, tmp_path, monkeypatch):
    pytest.importorskip("altair", reason='needs pip install "seqboat-bench[report]"')
    monkeypatch.chdir(tmp_path)

    def made(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, *files])
        assert done.exit_code == 0, done.output
        return Path(words[2]).read_text(encoding="utf-8")

    new = ["--rename", "seqboat=Ours", "--rename", "Transformer=Theirs"]
    for chart in ("speed", "rounds"):
        own, other = (json.loads(made("plot", "-o", "a.json", "--chart", chart, *more)) for more in ([], new))
        assert scales(own) == scales(other)
        text = json.dumps(other)
        assert [name in text for name in ("Ours", "Theirs", '"SeqBoat"', "(× Transformer)")] == [
            True, True, False, False
        ]  # fmt: skip
    page = made("report", "-o", "page.html", *new)
    assert "Ours" in page
    assert ">SeqBoat<" not in page
    refused = CliRunner().invoke(app, ["plot", *files, "-o", "b.svg", "--rename", "foo=bar"])
    assert "--rename foo: choose transformer" in str(refused.exception)


def scales(specification: dict) -> list[list[str]]:
    """Colours of models, in whatever part of a chart."""
    found = re.findall(r'"range": (\[[^]]*"#[^]]*\])', json.dumps(specification))
    return [json.loads(colours) for colours in found]


@pytest.mark.parametrize("name", ["plot", "report", "profile"])
def test_help(name):
    assert "Usage: " in bench(name, "--help").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plot", "gone.jsonl", "-o", "a.svg"], "gone.jsonl: cannot be read"),
        (["plot", "gone.json", "--chart", "roofline", "-o", "a.svg"], "gone.json: cannot be read"),
        (["report", "gone.jsonl"], "gone.jsonl: cannot be read"),
        (["profile", "--impl", "seqbot", "--suite", "ci"], "unknown implementation 'seqbot'"),
        (["profile", "--impl", "seqboat", "--suite", "ci", "--trace", "no/t.json"], "no such folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, tmp_path):
    finished = bench(*words, cwd=tmp_path)
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1
    assert message in finished.stderr
    assert list(tmp_path.iterdir()) == []


def test_views_load_no_torch():
    modules = "bench.views.report, bench.views.charts.charts, bench.views.profile"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "False"


def test_help_is_quick():
    """Processor time of the child, so that a busy machine does not count."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    bench("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert min(used, time.monotonic() - begin) < 0.6


@pytest.mark.parametrize("command", ["report", "plot", "table"])
def test_an_output_never_takes_the_place_of_an_input(tmp_path, command):
    path = write(results(path="run.json"), tmp_path)
    before = path.read_bytes()
    done = bench(command, str(path), "-o", str(tmp_path / "." / "run.json"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is one of the files that are read" in done.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--suite", "mine.yaml", "-o", "mine.yaml"],
        ["list", "suites", "mine.yaml", "-o", "mine.yaml"],
        ["train", "--suite", "mine.yaml", "--table", "mine.yaml"],
        ["run", "--suite", "mine.yaml", "--workload", "text:book.txt", "-o", "book.txt"],
        ["profile", "--impl", "seqboat", "--suite", "mine.yaml", "--out", "run.jsonl"],
        ["run", "--suite", "above.yaml", "-o", "mine.yaml"],
        ["run", "--suite", "both.yaml", "-o", "mine.yaml"],
        ["regress", "--base", "HEAD", "--suite", "mine.yaml", "--comment", "mine.yaml"],
        ["regress", "--base", "HEAD", "--suite", "above.yaml", "--comment", "mine.yaml"],
        ["run", "--suite", "ci", "--checkpoint", "b.safetensors,a.safetensors", "-o", "a.safetensors"],
        ["run", "--suite", "ci", "--impl", "mine=hf:config.json", "-o", "config.json"],
        ["profile", "--impl", "hf:config.json", "--suite", "ci", "--out", "config.json"],
        ["report", "run.jsonl", "-o", "other.jsonl"],
        ["table", "run.jsonl", "-o", "trained.txt"],
        ["history", "--suite", "ci", "--model", "seqboat", "-o", "other.jsonl"],
        ["data", "image", "--picture", "other.jsonl"],
        ["regress", "--base", "HEAD", "--impl", "seqboat", "--comment", "other.jsonl"],
        ["table", "run.jsonl", "-o", "my_model.py"],
        ["profile", "--impl", "my_model:build", "--suite", "mine.yaml", "--out", "my_model.py"],
        ["run", "--impl", "my_model:build", "--suite", "mine.yaml", "-o", "my_model.py"],
        ["profile", "--impl", "seqboat", "--suite", "mine.yaml", "--trace", "mine.yaml"],
        ["profile", "--impl", "seqboat", "--suite", "mine.yaml", "--trace", "a.json", "--out", "a.json"],
    ],
)
def test_no_output_takes_the_place_of_an_input_or_a_record(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(write(results(), tmp_path), "other.jsonl")
    for name in ("trained.jsonl", "trained.txt"):
        Path(name).write_text('{"type":"training","schema":1}\n')
    Path("mine.yaml").write_text("extends: ci\n")
    Path("above.yaml").write_text("extends: mine.yaml\n")
    Path("both.yaml").write_text("description: two\nsuites: [ci, above.yaml]\nbaseline: transformer\n")
    Path("a.safetensors").write_bytes(b"")
    Path("config.json").write_text('{"model_type": "mamba2"}')
    Path("book.txt").write_text("words")
    Path("my_model.py").write_text("build = None\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, UsageError), refused.output
    assert re.search("is a result file|is a program|is one of the files", str(refused.exception))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("command", [["plot", "--chart", "speed"], ["report"]])
def test_charts_never_draw_two_models_as_one(files, tmp_path, command):
    words = [*command, files[0], "-o", str(tmp_path / "out.html"), "--rename", "seqboat=Transformer"]
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, UsageError), refused.output
    assert "Transformer would be the name of two models" in str(refused.exception)
