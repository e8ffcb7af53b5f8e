"""Two stored runs: what they say of each other, and when they are not to be compared."""

import json

import msgspec
import pytest

from bench.errors import UsageError
from bench.probes.environment import read_environment
from bench.records.reading import Results
from bench.records.run import SCHEMA, Header, Lost, Sample
from bench.records.solo import MemoryFigure, Solo
from bench.records.writing import ResultFile
from bench.suites import reading as suites
from bench.suites.suite import Timing
from bench.views.comparison import compare
from bench.views.tables.choice import Choice
from bench.views.tables.formats import render

from ..in_process import bench

SUITE = suites.load("ci")
CASES = SUITE.cases("cpu")
ENVIRONMENT = read_environment("cpu", 1)


def run(path: str, *block_seconds: float, suite=SUITE, lost=(), revisions=None, **environment) -> Results:
    """A run in which every case has these block times."""
    cases = suite.cases("cpu")
    header = Header(
        schema=SCHEMA,
        created="2026-01-01T00:00:00+00:00",
        command=["bench", "run"],
        suite=suite,
        environment=msgspec.structs.replace(ENVIRONMENT, **environment),
        data="made up",
        revisions=revisions,
    )
    memory = [MemoryFigure(kind="tensor_bytes", bytes=1 << 20)]
    samples = [
        Sample(
            case_id=case.id, block=block, group=0, round=0, visit=visit, position=visit, steps=2,
            seconds=2 * seconds,
        )
        for case in cases for block, seconds in enumerate(block_seconds) for visit in (0, 1)
    ]  # fmt: skip
    return Results(
        path=path,
        header=header,
        solos={case.id: Solo(case=case, status="ok", memory=memory) for case in cases},
        samples=samples,
        lost={case.id: Lost(case_id=case.id, block=0, status="oom", reason="full") for case in lost},
        end=None,
    )


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((0.5, 0.505, 0.495), "FASTER"),
        ((2.0, 2.02, 1.98), "SLOWER"),
        ((1.0, 1.001, 0.999), "SAME"),
        ((0.5, 1.0, 1.6), "AMBIGUOUS"),
        ((0.5, 0.5), "AMBIGUOUS"),
        ((), "UNMEASURED"),
    ],
)
def test_the_verdict_and_its_interval(times, expected):
    found = compare(run("a", 1.0, 1.001, 0.999), run("b", *times))
    assert [row.verdict for row in found.rows] == [expected] * len(CASES)
    row = found.rows[0]
    assert row.a_step_seconds == pytest.approx(1.0, rel=1e-3)
    assert (row.speed_low is None) == (len(times) < 3)
    if row.speed_low is not None:
        assert row.speed_low <= row.speed_ratio <= row.speed_high
    assert "not interleaved" in render(found, "terminal")


def test_a_case_that_failed_is_named():
    found = compare(run("a", 1.0, 1.0, 1.0), run("b", 1.0, 1.0, 1.0, lost=CASES[:1]))
    assert (found.rows[0].verdict, found.rows[0].b_status) == ("UNMEASURED", "oom")
    assert found.rows[1].verdict == "SAME"
    assert "oom" in render(found, "terminal")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hardware": "a faster one"}, "other hardware"),
        ({"threads": 64}, "other threads (1 and 64)"),
        ({"torch": "1.0"}, "other torch"),
        ({"suite": msgspec.structs.replace(SUITE, precision="bf16")}, "other precision (fp32 and bf16)"),
        ({"suite": msgspec.structs.replace(SUITE, lengths=(512,))}, "other suite: lengths (256 and 512)"),
    ],
)
def test_what_differs_is_refused_and_forced_with_a_label(changes, reason):
    a, b = run("a", 1.0, 1.0, 1.0), run("b", 1.0, 1.0, 1.0, **changes)
    with pytest.raises(UsageError) as refusal:
        compare(a, b)
    assert reason in str(refusal.value)
    assert "--force" in str(refusal.value)
    if "suite" in changes:
        with pytest.raises(UsageError, match="no case in common"):
            compare(a, b, force=True)
        return
    forced = compare(a, b, force=True)
    assert any(reason in label for label in forced.forced)
    assert render(forced, "terminal").startswith(f"NOT COMPARABLE, forced: {reason}")
    for form in ("markdown", "latex", "html"):
        assert "NOT COMPARABLE" in render(forced, form, Choice(notes=False))
    assert json.loads(render(forced, "json"))["forced"] == forced.forced


def test_how_long_a_run_took_does_not_matter():
    longer = msgspec.structs.replace(SUITE, timing=Timing(budget="1h"), description="longer")
    assert compare(run("a", 1.0), run("b", 1.0, suite=longer)).forced == []


def test_raw_data_of_a_gate_is_no_run():
    with pytest.raises(UsageError, match="gate's raw data"):
        compare(run("a", 1.0), run("b", 1.0, revisions={"base": "c0ffee"}), force=True)


def test_the_command(tmp_path):
    for name, results in (("a", run("a", 1.0, 1.0, 1.01)), ("b", run("b", 0.5, 0.5, 0.51))):
        with ResultFile(tmp_path / f"{name}.jsonl") as store:
            for record in (results.header, *results.solos.values(), *results.samples):
                store.append(record)
    done = bench("compare", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--json")
    rows = json.loads(done.stdout)["rows"]
    assert done.returncode == 0
    assert [row["verdict"] for row in rows] == ["FASTER"] * len(CASES)
    for words, code, said in (
        ((), 0, "--fail-on slower,bigger makes it 1"),
        (("--fail-on", "slower"), 1, f"FAILED: {CASES[0].implementation} at 256: slower, 0.5"),
        (("--fail-on", "bigger"), 0, "no case is bigger"),
        (("--fail-on", "louder"), 2, "--fail-on louder: choose slower or bigger"),
    ):
        slower = bench("compare", tmp_path / "b.jsonl", tmp_path / "a.jsonl", *words)
        assert slower.returncode == code
        assert said in slower.stdout + slower.stderr
    missing = bench("compare", tmp_path / "a.jsonl", tmp_path / "c.jsonl")
    assert missing.returncode == 2
    assert "cannot be read" in missing.stderr


def test_what_grew_or_runs_no_more_fails_if_asked():
    a, b = run("a", 1.0, 1.0, 1.0), run("b", 1.0, 1.0, 1.0, lost=CASES[:1])
    figure = MemoryFigure(kind="tensor_bytes", bytes=(1 << 20) * 104 // 100)
    grown = msgspec.structs.replace(b.solos[CASES[1].id], memory=[figure])
    b = msgspec.structs.replace(b, solos=b.solos | {CASES[1].id: grown})
    assert compare(a, b).failures == []
    slower = compare(a, b, fails_on=("slower",))
    assert slower.failures == [f"{CASES[0].implementation} at 256: does not run in B (oom)"]
    assert compare(a, b, fails_on=("bigger",)).failures[1:] == [
        f"{CASES[1].implementation} at 256: bigger, 1.04 MiB after 1.00 MiB"
    ]
