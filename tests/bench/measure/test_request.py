"""What is asked of a run: from options to a request, and back to a command line."""

from pathlib import Path

import pytest

from bench.measure.request import as_command, default_out, request_for, resume_line


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
