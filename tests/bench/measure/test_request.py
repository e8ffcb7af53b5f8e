"""What is asked of a run: from options to a request, and back to a command line."""

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import UsageError
from bench.measure.display import open_display
from bench.measure.request import as_command, begun, default_out, load_suite, request_for, resume_line
from bench.records.gpu import GpuSettings
from bench.suites import reading
from bench.suites.files import suite_of_keys
from bench.suites.suite import BatchSizes, Timing
from bench.text.units import parse_duration

from ..made_up import CPU, results, write


def test_runs_that_begin_together_have_files_of_their_own():
    assert len({default_out("ci") for _ in range(100)}) == 100
    assert default_out("my/suite.yaml", "noise").match("results/runs/noise-suite-*.jsonl")


def test_what_is_not_given_stays_as_the_suite_has_it():
    request = request_for("ci", lengths=[64], seed=0, activation=[], fill=None, resume=Path("a.jsonl"))
    assert request.overrides == {"lengths": [64], "seed": 0, "activation": []}
    assert request.resume == Path("a.jsonl")


def test_a_call_from_python_as_a_command_line():
    settings = {
        "implementations": ["seqboat", "my_model:build"], "lengths": [64, 128], "activation": [], "seed": 0,
        "fill": None, "quick": True, "energy": False, "device": "cpu",
    }  # fmt: skip
    assert " ".join(as_command("ci", settings)) == (
        "bench run --suite ci --impl seqboat,my_model:build --length 64,128 --activation init --seed 0 "
        "--quick --device cpu"
    )


@pytest.mark.parametrize(
    ("called", "line"),
    [
        ("bench run --suite ci", "bench run --suite ci --resume b.jsonl"),
        ("bench run --out b.jsonl --suite ci", "bench run --suite ci --resume b.jsonl"),
        ("bench run --suite ci --out=b.jsonl", "bench run --suite ci --resume b.jsonl"),
        ("bench run --suite ci --resume b.jsonl", "bench run --suite ci --resume b.jsonl"),
        ("bench run --suite ci --resume=b.jsonl", "bench run --suite ci --resume=b.jsonl"),
    ],
)
def test_the_line_that_resumes_a_run(called, line):
    assert resume_line(called.split(), Path("b.jsonl")) == line


def test_a_record_is_continued_without_the_name_of_its_suite(tmp_path):
    made = results(["transformer", "seqboat"], [1024], batch=BatchSizes(cpu=(1, 4)))
    header = msgspec.structs.replace(made.header, command=["bench", "run", "--suite", "made-up", "--quick"])
    path = write(msgspec.structs.replace(made, header=header), tmp_path)
    suite, options = begun(path)
    assert reading.load(suite) == header.suite
    assert options == {
        "pairing": "turns",
        "quick": True,
        "energy": False,
        "arithmetic": False,
        "lock_clocks": None,
        "budget": header.suite.timing.budget,
    }
    with pytest.raises(UsageError, match="is a collection's folder; name the collection with --suite"):
        begun(tmp_path)


def test_the_command_asks_for_what_a_record_had(tmp_path, monkeypatch):
    locked = msgspec.structs.replace(CPU, gpu=GpuSettings(locked_sm_mhz=900))
    timing, quick = Timing(max_blocks=3, budget="7m"), Timing(budget="4m")
    made = results(["transformer"], environment=locked, timing=timing, quick=quick)
    header = msgspec.structs.replace(made.header, command=["bench", "run", "--quick"])
    path = write(msgspec.structs.replace(made, header=header), tmp_path)
    asked = []

    def run(request):
        asked.append((load_suite(request).timing.budget, request.lock_clocks, request.quick))
        raise UsageError("enough")

    monkeypatch.setattr("bench.measure.session.run", run)
    for words in ([], ["--budget", "1m", "--lock-clocks", "1200"]):
        CliRunner().invoke(app, ["run", "--resume", str(path), *words])
    assert asked == [("7m", 900, True), ("1m", 1200, True)]


@pytest.mark.parametrize(("budget", "words"), [("7m", "7m"), (1_000_000, "1000000.000s"), (0.5, "0.500s")])
def test_a_budget_is_continued_in_words_that_are_read(tmp_path, budget, words):
    path = write(results(["transformer"], timing=Timing(budget=budget)), tmp_path)
    _, options = begun(path)
    assert options["budget"] == words
    assert parse_duration(words) == parse_duration(budget)


def test_another_pairing_than_the_record_s_is_refused(tmp_path):
    path = write(results(["transformer", "seqboat"]), tmp_path)
    done = CliRunner().invoke(app, ["run", "--resume", str(path), "--pairing", "duet"])
    assert str(done.exception) == f"--pairing duet: {path} was made with --pairing turns"


def test_a_run_without_a_suite_or_a_record_is_one_line():
    done = CliRunner().invoke(app, ["run"])
    assert str(done.exception).startswith("--suite: name a suite (bench list suites), or a run to continue")


def test_a_suite_may_be_given_by_its_keys():
    suite = reading.load(suite_of_keys({"extends": "ci", "lengths": [64]}))
    assert (suite.name, suite.lengths, suite.workload) == ("suite", (64,), "text")
    with pytest.raises(UsageError, match=r"suite: .*did you mean `lengths`"):
        reading.load(suite_of_keys({"workload": "text", "lenghts": [64]}))
    with pytest.raises(UsageError, match="suite: `tokens`: takes the place of `batch`"):
        suite_of_keys({"tokens": 1, "batch": 1})
    assert "--suite" not in as_command(None, {"quick": True})


def test_a_quiet_run_says_nothing(capsys):
    for quiet, words in ((False, "load 9.0"), (True, "")):
        with open_display(quiet=quiet) as display:
            display.notice("load 9.0")
        assert capsys.readouterr().err.strip() == words
