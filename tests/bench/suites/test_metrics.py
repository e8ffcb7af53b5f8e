"""Figures of the user's own: measured, shown, kept; and what a metric does costs its own figure only."""

import csv
import io
import json
import math
import sys

import msgspec
import pytest
from typer.testing import CliRunner

from bench import Figure
from bench.cli import app
from bench.commands.tables import Shown
from bench.errors import UsageError
from bench.records.reading import read
from bench.records.solo import MetricFigure
from bench.suites import metrics
from bench.views.figures import figures_of
from bench.views.tables.choice import Choice
from bench.views.tables.formats import render
from bench.views.tables.table import build_table

from ..made_up import results

MODULE = """
import os
from bench import Figure


def gradient(step):
    return Figure("gradient norm", sum(p.grad.norm() ** 2 for p in step.model.parameters()) ** 0.5, "nats")


def raises(step):
    raise KeyError("no such layer")


def infinite(step):
    step.model.zero_grad()
    return "loss", float("inf"), ""


def ends(step):
    os._exit(7)


def after(step):
    return "never", 1.0
"""
NAMES = ("gradient", "raises", "infinite", "ends", "after")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "metrics_of_mine.py").write_text(MODULE)
    return tmp_path


def test_a_run_with_metrics(folder, write_suite):
    suite = write_suite("transformer", hyperparameters="small", lengths=[16])
    asked = ",".join(f"metrics_of_mine:{name}" for name in NAMES)
    words = (
        f"run --suite {suite} --quick --threads 1 --device cpu --format json --out run.jsonl --metric".split()
    )
    ran = CliRunner().invoke(app, [*words, asked])
    assert ran.exit_code == 0, ran.output
    (row,) = json.loads(ran.stdout)
    assert row["status"] == "ok"
    assert row["step_seconds"] > 0
    found = {figure["metric"].partition(":")[2]: figure for figure in row["metrics"]}
    assert (found["gradient"]["name"], found["gradient"]["unit"]) == ("gradient norm", "nats")
    assert found["gradient"]["value"] > 0
    assert found["raises"]["failure"] == "KeyError: 'no such layer'"
    assert found["infinite"]["failure"] == "gives inf, which is not finite"
    assert found["ends"]["failure"].startswith("crashed: ended with exit code 7")
    assert found["after"]["failure"] == "not asked after metrics_of_mine:ends"
    header = read(folder / "run.jsonl").header
    assert {f"metric metrics_of_mine:{name}" for name in NAMES} <= set(header.sources)
    assert len(row["batch_digest"]) == 16


def with_figures(**figures: tuple[MetricFigure, ...]):
    """A run of two models with these figures, by model."""
    run = results(("transformer", "s4"))
    solos = {
        name: msgspec.structs.replace(solo, metrics=list(figures.get(solo.case.implementation, ())))
        for name, solo in run.solos.items()
    }
    return msgspec.structs.replace(run, solos=solos)


def test_figures_are_columns_and_failures_are_notes():
    run = with_figures(
        transformer=(MetricFigure(metric="m:f", name="norm", value=12.3456, unit="nats"),),
        s4=(MetricFigure(metric="m:f", failure="KeyError: 'x'"),),
    )
    table = build_table(run)
    text = render(table, "markdown")
    assert "| norm \\[nats\\] |" in text or "norm [nats]" in text
    assert "12.35" in text
    assert "metric m:f has no figure of S4 at 4096: KeyError: 'x'" in text
    head, *lines = csv.reader(io.StringIO(render(table, "csv")))
    place = head.index("norm [nats]")
    assert [line[place] for line in lines] == ["12.3456", ""]
    short = render(table, "markdown", Choice(columns=["norm"], rename={"norm": "GN"}))
    assert "| GN |" in short


def test_exports_tell_two_metrics_of_one_name_apart():
    same = tuple(MetricFigure(metric=name, name="norm", value=2.0, unit="nats") for name in ("m:f", "m:g"))
    run = with_figures(s4=same)
    row = next(row for row in build_table(run).rows if row.model == "s4")
    assert {"norm of m:f", "norm of m:g"} <= {figure.name for figure in figures_of(run, row)}


def test_a_column_that_no_metric_gave_costs_not_the_others(capsys):
    shown = Shown("terminal", None, Choice(columns=["norm"]), None)
    with pytest.raises(UsageError, match="--columns norm"):
        shown.show_measured(build_table(with_figures()))
    assert "Transformer" in capsys.readouterr().out


def test_two_metrics_that_call_theirs_the_same_have_a_column_each():
    run = with_figures(
        s4=tuple(
            MetricFigure(metric=name, name="norm", value=1.0 + len(name)) for name in ("m:f", "m:second")
        )
    )
    text = render(build_table(run), "csv")
    assert "norm of m:f,norm of m:second" in text


def test_models_that_had_other_batches_are_told():
    run = results(("transformer", "s4"))
    same = {name: msgspec.structs.replace(solo, batch_digest="a") for name, solo in run.solos.items()}
    assert "the same batch" not in render(build_table(msgspec.structs.replace(run, solos=same)), "terminal")
    other = dict(same)
    last = list(other)[-1]
    other[last] = msgspec.structs.replace(other[last], batch_digest="b")
    text = " ".join(render(build_table(msgspec.structs.replace(run, solos=other)), "terminal").split())
    assert "models did not have the same batch at length 4096" in text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (3.0, "gives float; give bench.Figure(name, value, unit)"),
        (("norm", "many"), "gives str in place of a number"),
        (("norm", math.nan), "gives nan, which is not finite"),
        ((" ", 1.0), "name or unit is not text"),
        (("norm", 1.0, 3), "name or unit is not text"),
    ],
)
def test_what_is_no_figure(given, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")):
        metrics.checked(given)


def test_a_figure_is_one_line():
    assert metrics.checked(("a\nname", 1, "s\n")) == Figure("a name", 1.0, "s")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("metrics_of_mine:absent", "has no attribute 'absent'"),
        ("nothing_of_that_name:f", "No module named 'nothing_of_that_name'"),
        ("metrics_of_mine:os", "is not a function of a step"),
        ("norm", "unknown metric 'norm'; none is installed"),
        ("metrics_of_mine:after,metrics_of_mine:after", "is given twice"),
    ],
)
def test_a_metric_that_is_not_there_is_told_before_anything_runs(folder, name, words):
    ran = CliRunner().invoke(app, ["run", "--suite", "text-small", "--metric", name, "--out", "run.jsonl"])
    assert isinstance(ran.exception, UsageError)
    assert str(ran.exception).startswith("--metric: ")
    assert words in str(ran.exception)
    assert not (folder / "run.jsonl").exists()
