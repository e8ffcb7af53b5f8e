"""The command line as a user meets it: output, exit codes, and one clear line for whatever is wrong."""

import json
import os
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from bench.cli import app
from bench.text.units import parse_duration, parse_length

from ..in_process import bench


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
