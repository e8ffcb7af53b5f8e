"""A bundle's run against one made here: verdicts with intervals, and what differs in the environment."""

import json
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import UsageError
from bench.measure import sharing
from bench.measure.session import Outcome
from bench.records import bundle
from bench.views import reproduction as view
from bench.views.tables.choice import Choice
from bench.views.tables.formats import render

from .. import made_up
from ..made_up import write

MODELS = ("transformer", "s4")
CPU = msgspec.structs.replace(made_up.CPU, torch=version("torch"), libraries={"numpy": version("numpy")})


def results(*words, environment=CPU, slower=1.0, **settings):
    """A run whose blocks differ by a thousandth."""
    run = made_up.results(*words, environment=environment, **settings)
    seconds = {name: made_up.step_seconds(solo.case) * slower for name, solo in run.solos.items()}
    samples = [
        msgspec.structs.replace(sample, seconds=seconds[sample.case_id] * (1 + 0.001 * (sample.block % 2)))
        for sample in run.samples
    ]
    return msgspec.structs.replace(run, samples=samples)


@pytest.fixture
def given(tmp_path, monkeypatch) -> bundle.Bundle:
    monkeypatch.chdir(tmp_path)
    sharing.write_bundle(write(with_batches(results(MODELS, blocks=4)), tmp_path), tmp_path / "run.zip")
    return bundle.read(tmp_path / "run.zip")


def with_batches(run, digest="0123"):
    solos = {name: msgspec.structs.replace(solo, batch_digest=digest) for name, solo in run.solos.items()}
    return msgspec.structs.replace(run, solos=solos)


def only_slower(model: str, factor: float, **words):
    """A run in which one model takes so many times longer."""
    run = with_batches(results(MODELS, blocks=4, **words))
    samples = [
        msgspec.structs.replace(sample, seconds=sample.seconds * factor)
        if sample.case_id.startswith(f"{model}/")
        else sample
        for sample in run.samples
    ]
    return msgspec.structs.replace(run, samples=samples)


def verdicts(found: view.Reproduction) -> dict[str, str]:
    return {row.model: row.verdict for row in found.rows}


def test_the_same_run_is_the_same(given):
    found = view.reproduction(given, given.results, given.packages)
    assert verdicts(found) == {"transformer": "SAME", "s4": "SAME"}
    assert all(0.97 < row.low <= 1 <= row.high < 1.03 for row in found.rows)
    assert found.differences == []
    assert "nothing else that is recorded differs" in render(view.as_table(found), "terminal")


@pytest.mark.parametrize(("factor", "verdict"), [(1.5, "SLOWER"), (0.5, "FASTER"), (1.0, "SAME")])
def test_on_the_same_machine_the_step_time_tells(given, factor, verdict):
    found = view.reproduction(given, only_slower("s4", factor), given.packages)
    assert found.figure == "step time"
    assert verdicts(found) == {"transformer": "SAME", "s4": verdict}
    (_, row) = found.rows
    assert row.ratio == pytest.approx(1 / factor, rel=0.02)


@pytest.mark.parametrize(("factor", "verdict"), [(3.0, "SLOWER"), (0.3, "FASTER"), (1.0, "SAME")])
def test_on_another_machine_the_ratio_to_the_baseline_tells(given, factor, verdict):
    other = msgspec.structs.replace(CPU, hardware="a faster processor")
    now = only_slower("s4", factor, environment=other, slower=0.1)
    found = view.reproduction(given, now, given.packages)
    assert found.figure == "ratio to the baseline"
    assert verdicts(found) == {"transformer": "CAN'T TELL", "s4": verdict}
    assert "it is the baseline" in found.rows[0].reason
    assert "hardware a processor → a faster processor" in found.differences


def test_a_few_blocks_cannot_tell(given):
    found = view.reproduction(given, with_batches(results(MODELS, blocks=2)), given.packages)
    assert set(verdicts(found).values()) == {"CAN'T TELL"}
    assert "too few blocks for an interval (2)" in render(view.as_table(found), "terminal")


def test_what_does_not_run_here_cannot_be_told(given):
    now = with_batches(results(MODELS, blocks=4, failed={"s4": "oom"}))
    found = view.reproduction(given, now, given.packages)
    assert verdicts(found)["s4"] == "CAN'T TELL"
    text = render(view.as_table(found), "terminal")
    assert "s4 at length 4096: did not run here: Tried to allocate 64.0 GiB" in text


def test_whatever_differs_is_told(given):
    other = msgspec.structs.replace(CPU, threads=8, python="3.12.1", libraries={"numpy": "0.1"})
    now = with_batches(results(MODELS, blocks=4, environment=other, data="another text"), "4567")
    header = msgspec.structs.replace(now.header, sources={"s4": "89"})
    then = msgspec.structs.replace(given.results.header, sources={"s4": "67", "bench": "1"})
    older = msgspec.structs.replace(given.results, header=then)
    given = bundle.Bundle(**vars(given) | {"results": older})
    packages = [line for line in given.packages if not line.startswith("scipy==")] + ["numpy==99"]
    text = "\n".join(
        view.reproduction(given, msgspec.structs.replace(now, header=header), packages).differences
    )
    for words in (
        "threads 2 → 8",
        "python 3.11.7 → 3.12.1",
        f"numpy {version('numpy')} → 0.1",
        "1 packages in another version: numpy==",
        "1 packages that are not here: scipy==",
        "another source of s4",
        "another source of what measures",
        "other data (made up; here another text)",
        "other batches in 2 of 2 cases",
    ):
        assert words in text


@pytest.fixture
def command(given, monkeypatch):
    """`bench reproduce` with a run that is made up in place of a measured one."""
    asked = []

    def call(now, *words: str, interrupted: bool = False):
        def run(request):
            asked.append(request)
            return Outcome("now.jsonl", [now], interrupted, "bench reproduce run.zip --resume now.jsonl")

        monkeypatch.setattr("bench.measure.session.run", run)
        return CliRunner().invoke(app, ["reproduce", "run.zip", *words])

    call.asked = asked
    return call


def test_the_command_measures_the_bundles_suite_and_prints_verdicts(given, command):
    ran = command(only_slower("s4", 1.5))
    assert ran.exit_code == 0, ran.exception
    assert "1 SAME, 1 SLOWER; compared is the step time" in ran.output
    (request,) = command.asked
    assert (request.device, request.threads) == ("cpu", 2)
    assert request.suite.keys["implementations"] == list(MODELS)
    assert json.loads(command(only_slower("s4", 1.5), "--json").stdout)["rows"][1]["verdict"] == "SLOWER"


def test_the_exit_code_tells_what_it_is_asked_for(command):
    slower = only_slower("s4", 1.5)
    assert command(slower, "--fail-on", "slower").exit_code == 1
    assert command(slower, "--fail-on", "faster,cant-tell").exit_code == 0
    assert isinstance(command(slower, "--fail-on", "late").exception, UsageError)
    assert command(with_batches(results(MODELS, failed={"s4": "oom"}))).exit_code == 3
    interrupted = command(slower, interrupted=True)
    assert interrupted.exit_code == 130
    assert "resume with: bench reproduce run.zip --resume now.jsonl" in interrupted.stderr


def test_a_model_that_is_not_installed_here_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(results(("gone-model",)), tmp_path)
    sharing.write_bundle(path, tmp_path / "run.zip")
    ran = CliRunner().invoke(app, ["reproduce", "run.zip"])
    assert isinstance(ran.exception, UsageError)
    assert "unknown implementation 'gone-model'" in str(ran.exception)
    assert not Path("results").exists()


def test_a_duet_is_held_against_turns_by_each_ones_own_pairs(given):
    """A run in turns has no pairs side by side: its ratio is that of its rounds."""
    duet = msgspec.structs.replace(CPU, pairing="duet")
    header = msgspec.structs.replace(given.results.header, environment=duet, estimator="pairs")
    samples = [
        msgspec.structs.replace(sample, processors=[sample.position % 2]) for sample in given.results.samples
    ]
    then = msgspec.structs.replace(given.results, header=header, samples=samples)
    found = view.reproduction(
        bundle.Bundle(**vars(given) | {"results": then}), with_batches(results(MODELS, blocks=4)), []
    )
    assert "pairing duet → turns" in "\n".join(found.differences)
    assert {row.model for row in found.rows} == set(MODELS)


def test_variables_that_differ_are_told(given):
    now = with_batches(
        results(
            MODELS,
            blocks=4,
            environment=msgspec.structs.replace(CPU, variables={"OMP_WAIT_POLICY": "active"}),
        )
    )
    assert "variables None → OMP_WAIT_POLICY=active" in "\n".join(
        view.reproduction(given, now, []).differences
    )


@pytest.mark.parametrize(
    ("settings", "environment", "asked"),
    [
        ({"threads": (1, 2)}, CPU, (None, "turns")),
        ({}, msgspec.structs.replace(CPU, pairing="duet"), (2, "duet")),
    ],
)
def test_the_command_measures_with_the_bundles_threads_and_pairing(
    tmp_path, command, settings, environment, asked
):
    run = with_batches(results(MODELS, blocks=4, environment=environment, **settings))
    sharing.write_bundle(write(run, tmp_path), tmp_path / "other.zip")
    (tmp_path / "run.zip").write_bytes((tmp_path / "other.zip").read_bytes())
    command(run)
    (request,) = command.asked
    assert (request.threads, request.pairing) == asked


def test_digits_reach_the_ratio(given):
    held = view.reproduction(given, only_slower("s4", 1.5), [])
    assert "0.667 (" in render(view.as_table(held), "markdown")
    assert "0.67 (0.67 to 0.67)" in render(view.as_table(held), "markdown", Choice(digits=2))
