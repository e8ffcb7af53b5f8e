"""`bench plan`: measured step times times the published schedule, and no figure where either is missing."""

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import UsageError
from bench.records.schedules import schedule_of
from bench.records.solo import Energy
from bench.views import training_cost
from bench.views.tables.formats import render

from .. import made_up

MODELS = ("mega-chunk", "transformer", "seqboat", "h3")


def record(folder: Path, name: str = "text.jsonl", **changes) -> Path:
    results = made_up.results(("mega-chunk", "transformer", "seqboat"), (4096,), path=name, **changes)
    return made_up.write(results, folder)


def by_model(found: training_cost.TrainingCosts, task: str = "text") -> dict[str, training_cost.Estimate]:
    return {one.model: one for one in found.estimates if one.task == task}


def test_schedules_are_steps_of_a_batch():
    text = schedule_of("mega", "text")
    assert text is not None
    assert (text.batch, text.steps) == (50, 25000)
    retrieval = schedule_of("mega", "retrieval")
    assert retrieval is not None
    assert retrieval.steps == 91960
    assert schedule_of("h3", "text") is None
    path_x = schedule_of("seqboat", "path_x")
    assert path_x is not None
    assert (path_x.batch, path_x.steps) == (128, 125_000)
    s5 = schedule_of("s5", "image")
    assert s5 is not None
    assert (s5.steps, s5.warm_up) == (250 * 900, 900)


def test_hours_are_steps_times_the_measured_step_scaled_to_the_published_batch(tmp_path):
    found = by_model(training_cost.training_costs("lra", "cpu", [record(tmp_path)]))
    chunk = found["mega-chunk"]
    assert chunk.measured_batch == 1
    assert chunk.measured_step_seconds == pytest.approx(0.8, rel=0.05)
    assert chunk.hours == pytest.approx(25000 * 50 * chunk.measured_step_seconds / 3600)
    assert chunk.joules is None
    assert chunk.record is not None
    assert chunk.record.endswith("text.jsonl")
    assert found["seqboat"].activation_rate is not None


def test_without_files_it_is_from_the_baselines_also_those_in_folders():
    found = training_cost.training_costs("lra", "cpu", [])
    chunks = [one for one in found.estimates if one.model == "mega-chunk"]
    assert {one.task for one in chunks} == {"listops", "text", "retrieval", "image", "pathfinder", "path_x"}
    assert all(one.hours is not None for one in chunks)
    assert any("lra-cpu/" in (one.record or "") for one in chunks)


def test_what_is_missing_is_named_and_has_no_figure(tmp_path):
    found = training_cost.training_costs("lra", "cpu", [record(tmp_path)])
    text = by_model(found)
    assert text["h3"].reason == "no published schedule"
    assert text["s4"].reason == "not measured on cpu yet (bench run)"
    assert all(one.hours is None for one in found.estimates if one.reason)
    assert all(one.hours is None for one in by_model(found, "image").values())
    assert (
        by_model(training_cost.training_costs("lra", "cuda", [record(tmp_path, "b.jsonl")]))["seqboat"].hours
        is None
    )
    shown = render(found, "terminal").splitlines()
    line = next(line for line in shown if line.startswith("SeqBoat "))
    assert line.split()[-1] == "–", "no total of fewer tasks than all"


def test_other_settings_are_no_evidence(tmp_path):
    short = made_up.write(made_up.results(("mega-chunk",), (2048,)), tmp_path)
    assert by_model(training_cost.training_costs("lra", "cpu", [short]))["mega-chunk"].hours is None


def test_joules_come_from_the_measured_energy(tmp_path):
    results = made_up.results(("mega-chunk", "seqboat"), (4096,))
    energy = Energy(step_joules=30.0, idle_watts=60.0, steps=10, seconds=5.0)
    solos = {
        key: msgspec.structs.replace(solo, energy=energy if solo.case.implementation == "seqboat" else None)
        for key, solo in results.solos.items()
    }
    path = made_up.write(msgspec.structs.replace(results, solos=solos), tmp_path)
    found = training_cost.training_costs("lra-text-4k", "cpu", [path])
    text = by_model(found)
    assert text["seqboat"].joules == pytest.approx(30.0 * 25000 * 50)
    assert text["mega-chunk"].joules is None
    assert "37.5MJ" in render(found, "terminal")


def test_the_command(tmp_path):
    path = record(tmp_path)
    arguments = ["plan", "--suite", "lra", "--device", "cpu", "--from", str(path)]
    printed = CliRunner().invoke(app, arguments)
    assert printed.exit_code == 0, printed.output
    for words in ("Hours on cpu", "25000 steps of 50", "activation", "in proportion to its batch"):
        assert words in printed.output
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert {one["model"] for one in found["estimates"]} >= set(MODELS)


def test_a_device_that_has_no_records_by_name():
    with pytest.raises(UsageError, match="choose cpu or cuda"):
        training_cost.training_costs("lra", "auto", [])
