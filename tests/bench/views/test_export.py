"""Exports for CI services: valid by their schemas, and what was not measured is absent."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import msgspec
import pytest

from bench.errors import UsageError
from bench.probes.environment import read_environment
from bench.records.reading import Results
from bench.records.run import SCHEMA, End, Header, Sample
from bench.records.solo import Decoding, MemoryFigure, Solo
from bench.suites import reading as suites
from bench.views.ci_formats import FORMATS, export
from bench.views.figures import figures_of
from bench.views.tables.rows import rows_of

from .. import made_up

SCHEMAS = Path(__file__).parent / "schemas"
SUITE = msgspec.structs.replace(
    suites.load("ci"), implementations=("transformer", "s4", "performer", "linformer", "seqboat")
)
CASES = SUITE.cases("cpu")
TIMED, WRONG, OOM, UNSUPPORTED, NOT_REACHED = CASES

HEADER = Header(
    schema=SCHEMA,
    created="2026-01-01T00:00:00+00:00",
    command=["bench", "run"],
    suite=SUITE,
    environment=read_environment("cpu", 1),
    data="made up",
)


def results(*block_seconds: float) -> Results:
    """One case that was timed, and one for each way of not being timed."""
    memory = [MemoryFigure(kind="tensor_bytes", bytes=1 << 20)]
    solos = [
        Solo(case=TIMED, status="ok", memory=memory, parameters=7, tokens=256),
        Solo(case=WRONG, status="wrong", reason='<b>differs</b> & "more" \x1b[31m\x00', memory=memory),
        Solo(case=OOM, status="oom", reason="out of memory"),
        Solo(case=UNSUPPORTED, status="unsupported", reason="has no such mode"),
    ]
    samples = [
        Sample(
            case_id=TIMED.id, block=block, group=0, round=0, visit=visit, position=visit, steps=1,
            seconds=seconds,
        )
        for block, seconds in enumerate(block_seconds) for visit in (0, 1)
    ]  # fmt: skip
    return Results(
        path="run.jsonl",
        header=HEADER,
        solos={solo.case.id: solo for solo in solos},
        samples=samples,
        lost={},
        end=End(reason="blocks", seconds=12.5),
    )


def schema(name: str) -> dict:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


@pytest.mark.parametrize("blocks", [(0.1, 0.2, 0.15, 0.12), (0.1,)])
@pytest.mark.parametrize("form", ["github-action-benchmark", "bencher"])
def test_json_formats_follow_their_schema(form, blocks):
    document = json.loads(export(results(*blocks), form))
    jsonschema.Draft202012Validator(schema(form)).validate(document)
    assert len(document) > 0
    text = json.dumps(document)
    for case in (WRONG, OOM, UNSUPPORTED, NOT_REACHED):
        assert case.id not in text


def test_github_action_values_and_their_range():
    document = json.loads(export(results(0.1, 0.2, 0.15), "github-action-benchmark"))
    step, memory = document
    assert (step["value"], step["unit"]) == (pytest.approx(150.0), "ms")
    assert step["range"] == "± 50"
    assert (memory["value"], memory["unit"]) == (1 << 20, "bytes")
    assert "range" not in json.loads(export(results(0.1, 0.2), "github-action-benchmark"))[0]


def test_bencher_measures_and_their_bounds():
    document = json.loads(export(results(0.1, 0.2, 0.15), "bencher"))
    (measures,) = document.values()
    latency = measures["latency"]
    assert latency["value"] == pytest.approx(0.15e9)
    assert latency["lower_value"] < latency["value"] < latency["upper_value"]
    assert measures["throughput"]["value"] == pytest.approx(1 / 0.15)
    assert next(iter(json.loads(export(results(0.1), "bencher")).values()))["latency"] == {"value": 0.1e9}


@pytest.mark.parametrize("blocks", [(0.1, 0.2, 0.15, 0.12), (0.1,)])
def test_pytest_benchmark_figures_are_those_that_it_would_derive(blocks):
    from pytest_benchmark.stats import Stats

    (benchmark,) = json.loads(export(results(*blocks), "pytest-benchmark"))["benchmarks"]
    theirs = Stats()
    for seconds in blocks:
        theirs.update(seconds)
    for name in ("min", "max", "mean", "stddev", "rounds", "median", "stddev_outliers", "ops", "total"):
        assert benchmark["stats"][name] == pytest.approx(getattr(theirs, name)), name
    assert set(Stats.fields) <= set(benchmark["stats"])


def test_pytest_benchmark_reads_its_format(tmp_path):
    path = tmp_path / "0001_run.json"
    path.write_text(export(results(0.1, 0.2, 0.15), "pytest-benchmark"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(path), "--columns=median,rounds"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "150.0000" in done.stdout + done.stderr


@pytest.mark.parametrize("blocks", [(0.1, 0.2, 0.15), ()])
def test_junit_follows_its_schema(blocks):
    xmlschema = pytest.importorskip("xmlschema")
    validator = xmlschema.XMLSchema(str(SCHEMAS / "junit.xsd"))
    validator.validate(export(results(*blocks), "junit"))
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        validator.validate("<testsuites tests='-1'/>")


def test_junit_tells_every_outcome():
    root = ElementTree.fromstring(export(results(0.1, 0.2, 0.15), "junit"))
    outcomes = {
        test.get("name"): [child.tag for child in test if child.tag != "properties"]
        for test in root.iter("testcase")
    }
    assert outcomes == {
        TIMED.id: [],
        WRONG.id: ["failure"],
        OOM.id: ["error"],
        UNSUPPORTED.id: ["skipped"],
        NOT_REACHED.id: ["skipped"],
    }
    counts = [root.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["5", "1", "1", "2"]
    message = root.find(".//failure").get("message")
    assert message == '<b>differs</b> & "more" ?[31m?'
    figures = {p.get("name"): p.get("value") for p in root.find(".//properties")}
    assert float(figures["step_seconds"]) == pytest.approx(0.15)
    assert figures["parameters"] == "7"


def test_an_unknown_format_names_the_known():
    with pytest.raises(UsageError) as refusal:
        export(results(0.1), "xml")
    assert all(form in str(refusal.value) for form in FORMATS)


def test_a_decoded_step_is_one_token_in_every_export():
    made = made_up.results(["transformer", "s4"], lengths=[64], phase="decode", workload="lm")
    decoding = Decoding(tokens=32, state_bytes=1, prefill_seconds=1.0, parallel_error=0.0, agrees=True)
    solos = {name: msgspec.structs.replace(solo, decoding=decoding) for name, solo in made.solos.items()}
    run = msgspec.structs.replace(made, solos=solos)
    row = rows_of(run, "transformer")[1]
    (times,) = (one.values for one in figures_of(run, row) if one.name == "step_time")
    assert statistics.geometric_mean(times) == pytest.approx(row.step_seconds * 1e3, rel=0.05)
    measures = json.loads(export(run, "bencher"))
    latency = next(each["latency"] for name, each in measures.items() if "s4" in name)
    assert latency["lower_value"] <= latency["value"] <= latency["upper_value"] < 2 * latency["value"]
