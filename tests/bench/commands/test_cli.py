"""The command line as a user meets it: output, exit codes, and one clear line for whatever is wrong."""

import io
import json
import os
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from bench.cli import app
from bench.probes.environment import command_line
from bench.text.terminal import width_of
from bench.text.units import parse_duration, parse_length

from ..in_process import bench
from ..repositories import commit, git


def test_importing_the_command_line_loads_nothing_heavy():
    code = "import sys, bench.cli; print({'torch', 'numpy', 'scipy', 'altair', 'jinja2'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "words", [["--help"], *([name, "--help"] for name in ("list", "run", "table", "verify"))]
)
def test_help(words):
    finished = bench(*words)
    assert finished.returncode == 0
    assert "Usage: " in finished.stdout


def test_version():
    from bench import __version__

    assert bench("--version").stdout == f"seqboat-bench {__version__}\n"


@pytest.mark.parametrize("command", [command.name for command in get_command(app).commands.values()])
def test_every_command_has_h_and_its_whole_summary(command):
    runner = CliRunner()
    assert "Usage: " in runner.invoke(app, [command, "-h"]).stdout
    summaries = runner.invoke(app, ["--help"]).stdout.split("Commands:")[1]
    assert "..." not in summaries
    assert f"\n  {command} " in summaries


def test_python_m_bench_is_bench():
    finished = subprocess.run([sys.executable, "-m", "bench", "--version"], capture_output=True, text=True)
    assert finished.stdout.startswith("seqboat-bench ")


@pytest.mark.parametrize("name", ["typer.py", "implementations/__init__.py"])
def test_python_m_bench_takes_nothing_of_the_current_folder_for_its_own(tmp_path, name):
    theirs = tmp_path / name
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("raise RuntimeError('of the user')\n")
    command = [sys.executable, "-m", "bench", "--version"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.stdout.startswith("seqboat-bench ")


def test_a_shell_completes_commands_and_options():
    for words, completion in (("bench prof", "profile"), ("bench table --form", "--format")):
        asked = {"_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        code = "import bench.cli; bench.cli.app(prog_name='bench')"
        finished = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=False
        )
        assert completion in finished.stdout.split()


@pytest.mark.parametrize(("text", "length"), [("1000", 1000), ("4k", 4096), ("1K", 1024), ("1M", 1 << 20)])
def test_lengths_are_read_as_people_write_them(text, length):
    assert parse_length(text) == length


@pytest.mark.parametrize(
    ("text", "seconds"), [("5min", 300), ("90", 90), ("3m30s", 210), ("3m 30s", 210), ("1h2m3.5s", 3723.5)]
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["30s3m", "3m30", "3 30s", "m", "3m3m", "", "3m30sx"])
def test_what_is_not_a_duration(text):
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("what", ["suites", "implementations", "workloads"])
def test_list_as_json_names_everything(what):
    finished = bench("list", what, "--json")
    names = [row["name"] for row in json.loads(finished.stdout)]
    assert {"suites": "lra-text-4k", "implementations": "seqboat", "workloads": "text"}[what] in names
    assert len(names) == len(set(names))


def test_list_follows_the_published_table():
    names = [row["name"] for row in json.loads(bench("list", "implementations", "--json").stdout)]
    table = ["transformer", "mega", "seqboat-full", "s4", "mega-chunk", "seqboat"]
    assert [name for name in names if name in table] == table


HUGE = "9" * 310
"""Above every number that a float can be."""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--suite", "lra-text-4"], "unknown suite 'lra-text-4'; did you mean 'lra-text-4k'?"),
        (["run", "--suite", "none.yaml"], "none.yaml: no such suite file"),
        (["run", "--suite", "ci", "--impl", "seqbot"], "did you mean 'seqboat'"),
        (["run", "--suite", "ci", "--length", "4q"], "--length 4q: give numbers, comma-separated"),
        (["run", "--suite", "ci", "--length", "0"], "--length 0: must be at least 1"),
        (["run", "--suite", "ci", "--impl", ""], "--impl '': name at least one"),
        (["run", "--suite", "ci", "--baseline", "transforme"], "did you mean 'transformer'?"),
        (["run", "--suite", "ci", "--precision", "fp8"], "--precision fp8: choose fp32, tf32,"),
        (["run", "--suite", "ci", "--seed=-1"], "--seed -1: must be at least 0"),
        (["run", "--suite", "ci", "--length", "-4"], "--length -4: "),
        (["run", "--suite", "ci", "--length", "2000000000"], "at most"),
        (["run", "--suite", "ci", "--activation", "2"], "--activation 2.0: "),
        (["run", "--suite", "ci", "--budget", "soon"], "'soon' is not a duration"),
        (["run", "--suite", "ci", "--precision", "int8"], "int8"),
        (["run", "--suite", "ci", "--device", "tpu"], "--device tpu: choose auto, cpu, cuda or cuda:i"),
        (["run", "--suite", "ci", "--format", "word"], "--format word: choose terminal"),
        (["run", "--suite", "ci", "--baseline", "s4"], "--baseline: 's4' is not among the implementations"),
        (["run", "--suite", "ci", "--resume", "gone.jsonl"], "gone.jsonl: cannot be continued"),
        (["run", "--suite", "ci", "--budget", ""], "--budget: '' is not a duration"),
        (["run", "--suite", "ci", "-o", ""], "-o .: cannot be written (it is a folder)"),
        (["run", "--suite", "ci", "--impl", "m:build(x=1j)"], "write hyper-parameters as (key=value, …)"),
        (["run", "--suite", "ci", "--impl", "m:build(x=...)"], "write hyper-parameters as (key=value, …)"),
        (["run", "--suite", "ci", "--impl", "m:build(x=1e999)"], "write hyper-parameters as (key=value, …)"),
        (["run", "--suite", "ci", "--hyperparameters", f"params:{HUGE}"], "as params:10M or params:500000"),
        (["run", "--suite", "ci", "--max-length", HUGE], "is more memory than there can be"),
        (["run", "--suite", "ci", "--max-batch", HUGE], "is more memory than there can be"),
        (["run", "--suite", "ci", "--predict", "--energy"], "--energy: nothing is timed with --predict"),
        (["run", "--suite", "ci", "--predict", "--pairing", "duet"], "--pairing: nothing is timed with"),
        (["run", "--suite", "ci", "--predict", "--lock-clocks", "900"], "--lock-clocks: nothing is timed"),
        (["regress", "--base", "HEAD", "--margin", "abc"], "--margin: 'abc' is not a percentage"),
        (["regress", "--base", "HEAD", "--tolerance", ""], "--tolerance: '' is not a percentage"),
        (["regress", "--base", "HEAD", "--comment", ""], "--comment .: cannot be written (it is a folder)"),
        (["regress", "--base", "HEAD", "--out", ""], "--out .: exists already; choose another name"),
        (["doctor", "--aa", "--out", ""], "--out .: exists already; choose another name"),
        (["doctor", "--suite", "ci"], "--suite: is of what --aa measures; give --aa too"),
        (["doctor", "--impl", "s4"], "--impl: is of what --aa measures; give --aa too"),
        (["doctor", "--out", "x.jsonl"], "--out: is of what --aa measures; give --aa too"),
        (["history", "--suite", "ci", "--model", "s4", "--since", "HEAD"], "--since HEAD: is of --check"),
        (["list", "gadgets"], "list gadgets: choose suites, implementations, workloads"),
        (["table", "gone.jsonl"], "gone.jsonl: cannot be read"),
        (["verify", "--golden", "gone"], "gone: no such folder"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(words, message, tmp_path):
    finished = bench(*words, cwd=tmp_path)
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1
    assert finished.stderr.startswith("bench: ")
    assert message in finished.stderr
    assert finished.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "--suite", "ci", "--lenght", "64"],
        ["fly"],
        ["data", "text", "--seed", "-1"],
        ["train", "--suite", "text-small", "--epochs", "nan"],
        ["train", "--suite", "text-small", "--steps", "4", "--weight-decay", "nan"],
    ],
)
def test_bad_usage_is_exit_code_2_without_a_traceback(words):
    finished = bench(*words)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("command", [["run"], ["train"], ["regress", "--base", "HEAD"], ["list", "suites"]])
def test_a_collection_that_is_none_is_one_line(command, tmp_path):
    git(tmp_path, "init", "--quiet")
    commit(tmp_path, **{"five.yaml": "suites: 5\n"})
    words = ["five.yaml"] if command[0] == "list" else ["--suite", "five.yaml"]
    finished = bench(*command, *words, cwd=tmp_path)
    assert (finished.returncode, finished.stderr.count("\n")) == (2, 1)
    assert "five" in finished.stderr


def test_too_little_memory_is_one_line(monkeypatch):
    def needs_more(*words):
        raise MemoryError("Unable to allocate 763 GiB")

    monkeypatch.setattr("bench.workloads.sheet.describe", needs_more)
    finished = bench("data", "lm", "--sequences", "100000000")
    assert finished.returncode == 2
    assert finished.stderr == "bench: there is not enough memory for this (Unable to allocate 763 GiB)\n"


@pytest.mark.parametrize(
    ("error", "line"), [(OSError(28, "Full"), "Full"), (OSError(5, "Bad", "x"), "x: Bad")]
)
def test_a_system_s_error_names_the_file_if_there_is_one(monkeypatch, error, line):
    def fails(*words):
        raise error

    monkeypatch.setattr("bench.workloads.sheet.describe", fails)
    assert bench("data", "lm").stderr == f"bench: {line}\n"


def test_what_has_no_vectors_is_named(golden):
    finished = bench("verify", "--golden", golden, "--impl", "my_model:build")
    assert finished.returncode == 2
    assert "my_model:build: there are no vectors of it by official code" in finished.stderr


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["regress", "--base", "HEAD"], "old.jsonl"),
        (["doctor", "--aa"], "old.jsonl"),
        (["doctor", "--aa"], "older.jsonl"),
    ],
)
def test_an_old_file_is_refused_by_commands_that_continue_none(command, name, tmp_path):
    (tmp_path / "old.jsonl").write_text("")
    (tmp_path / "older-duet.jsonl").write_text("")
    finished = bench(*command, "--out", name, cwd=tmp_path)
    assert finished.returncode == 2
    assert "exists already; choose another name" in finished.stderr


@pytest.mark.parametrize(("program", "named"), [("/x/bench/__main__.py", "bench"), ("/bin/bench", "bench")])
def test_a_line_that_resumes_can_be_run(program, named, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program, "run", "--suite", "ci"])
    assert command_line() == [named, "run", "--suite", "ci"]


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("²", None), ("0", None), ("x", None)])
def test_a_width_is_a_number(columns, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert width_of(io.StringIO()) == width


def test_verify_exits_with_1_on_a_failure_and_0_on_none(golden, tmp_path):
    source = golden / "transformer" / "layer_prenorm_gelu_causal.safetensors"
    folder = tmp_path / "transformer"
    folder.mkdir()
    (folder / source.name).write_bytes(source.read_bytes())
    good = bench("verify", "--golden", str(tmp_path))
    assert (good.returncode, good.stdout.splitlines()[-1]) == (
        0,
        "1 passed, 0 failed, 0 optional and unsupported",
    )
    (folder / "torn.safetensors").write_bytes(source.read_bytes()[:100])
    bad = bench("verify", "--golden", str(tmp_path), "--json")
    assert bad.returncode == 1
    verdicts = {verdict["case"]: verdict for verdict in json.loads(bad.stdout)}
    assert verdicts["torn"]["status"] == "error"
    good_verdict = verdicts["layer_prenorm_gelu_causal"]
    assert good_verdict["status"] == "passed"
    assert good_verdict["max_error"] < 1e-4
    assert {"system", "case", "status", "max_error", "worst_tensor", "detail"} <= set(good_verdict)


def test_output_cut_short_by_its_reader_is_no_error():
    command = f"{sys.executable} -m bench.cli list implementations --json | head -c 10"
    finished = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert finished.stderr == ""
