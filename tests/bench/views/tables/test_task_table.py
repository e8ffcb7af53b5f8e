"""The table of a collection: a column for each task, an average only where every task was measured."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import UsageError
from bench.measure import collection, session
from bench.measure.request import Request
from bench.records.reading import Results
from bench.records.writing import NotWritten
from bench.suites import collection as suite_collections
from bench.suites import reading as suites
from bench.suites.collection import Collection
from bench.views.tables import by_task as task_table
from bench.views.tables.by_task import ARENA
from bench.views.tables.formats import render

from ... import made_up

LENGTHS = {
    "listops": 2000, "text": 4096, "retrieval": 4000, "image": 1024, "pathfinder": 1024, "path_x": 16384
}  # fmt: skip


def arena(*, without: str | None = None, failed: dict[str, dict[str, str]] | None = None) -> list[Results]:
    return [
        made_up.results(
            ("mega-chunk", "s4", "seqboat"),
            (length,),
            path=f"{task}.jsonl",
            workload=task.replace("_", "-"),
            failed=(failed or {}).get(task, {}),
        )
        for task, length in LENGTHS.items()
        if task != without
    ]


def test_averages_are_over_all_tasks():
    table = task_table.build(arena())
    assert table.tasks == list(ARENA)
    assert table.baseline == "MEGA-chunk"
    by_model = {row.model: row for row in table.rows}
    assert by_model["mega-chunk"].speed_average == pytest.approx(1.0)
    # Made up at 0.8 and 0.5 seconds a step for every task.
    assert by_model["seqboat"].speed == pytest.approx(dict.fromkeys(ARENA, 1.6), rel=0.05)
    assert by_model["seqboat"].speed_average == pytest.approx(1.6, rel=0.05)
    assert by_model["seqboat"].memory_average == pytest.approx(0.625, rel=0.05)


def slower_by_the_block(results: Results) -> Results:
    """SeqBoat's blocks differ from each other."""
    samples = [
        msgspec.structs.replace(sample, seconds=sample.seconds * (1 + 0.1 * sample.block))
        if sample.case_id.startswith("seqboat/")
        else sample
        for sample in results.samples
    ]
    return msgspec.structs.replace(results, samples=samples)


def test_every_speed_has_its_interval_the_average_too():
    table = task_table.build(list(map(slower_by_the_block, arena())))
    row = next(row for row in table.rows if row.model == "seqboat")
    assert all(row.speed_low[task] < row.speed[task] < row.speed_high[task] for task in ARENA)
    assert row.speed_average_low < row.speed_average < row.speed_average_high
    widest = max(row.speed_high[task] / row.speed_low[task] for task in ARENA)
    assert row.speed_average_high / row.speed_average_low < widest
    text = render(table, "terminal")
    assert f"{row.speed_low['text']:.2f} to {row.speed_high['text']:.2f}" in text
    assert f"{row.speed_average_low:.2f} to {row.speed_average_high:.2f}" in text
    assert not any("no intervals" in note for note in table.notes)


def test_no_interval_of_an_average_where_a_task_had_too_few_blocks():
    few = made_up.results(
        ("mega-chunk", "s4", "seqboat"), (4000,), path="few.jsonl", workload="retrieval", blocks=2
    )
    table = task_table.build([few, *arena(without="retrieval")])
    row = next(row for row in table.rows if row.model == "seqboat")
    assert row.speed_low["retrieval"] is None
    assert row.speed_low["text"] is not None
    assert row.speed_average is not None
    assert row.speed_average_low is row.speed_average_high is None
    assert any(note.startswith("Retrieval: no intervals: 2 block(s)") for note in table.notes)
    only = task_table.build([few])
    assert "95% interval" not in render(only, "terminal")


def test_no_average_where_a_task_was_not_run():
    table = task_table.build(arena(without="path_x"))
    assert table.tasks == list(ARENA)
    assert all(row.speed["path_x"] is None and row.speed_average is None for row in table.rows)
    assert any("no averages: Path-X was not run" in note for note in table.notes)


def test_no_average_where_a_model_failed_and_why():
    table = task_table.build(arena(failed={"image": {"s4": "oom"}}))
    by_model = {row.model: row for row in table.rows}
    assert by_model["s4"].speed_average is None
    assert by_model["s4"].speed["text"] is not None
    assert by_model["seqboat"].speed_average is not None
    assert any(note.startswith("X  S4 on Image: out of memory") for note in table.notes)
    line = next(line for line in render(table, "terminal").splitlines() if line.startswith("S4"))
    assert line.split().count("X") == 1
    assert line.split()[-1] == "–"


def test_the_average_of_ratios_favours_no_baseline():
    forth, back = (task_table.build(arena(), name) for name in ("mega-chunk", "seqboat"))
    one = next(row for row in forth.rows if row.model == "seqboat").speed_average
    other = next(row for row in back.rows if row.model == "mega-chunk").speed_average
    assert one is not None
    assert other == pytest.approx(1 / one)


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex", "html"])
def test_every_format_has_every_task(form):
    text = render(task_table.build(arena()), form)
    for word in ("ListOps", "Path-X", "Average", "SeqBoat", "Speed (", "Mem ("):
        assert word in text


def test_figures_in_full():
    table = task_table.build(arena(without="path_x"))
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert len(rows) == 4 * len(table.rows)
    assert rows[0]["figure"] == "speed"
    assert rows[0]["path_x"] == rows[0]["average"] == ""
    found = json.loads(render(table, "json"))
    assert found[1]["speed"]["path_x"] is None
    assert found[1]["speed"]["text"] == pytest.approx(float(rows[4]["text"]))


def test_runs_that_make_no_table():
    with pytest.raises(UsageError, match="both of text"):
        task_table.build([*arena(), made_up.results(("mega-chunk",), (4096,), path="again.jsonl")])
    faster = msgspec.structs.replace(made_up.CPU, hardware="a faster processor")
    header = msgspec.structs.replace(arena()[0].header, environment=faster)
    with pytest.raises(UsageError, match="several machines"):
        task_table.build([*arena(), msgspec.structs.replace(arena()[0], header=header)])
    with pytest.raises(UsageError, match="several lengths"):
        task_table.build([made_up.results(("mega-chunk",), (1024, 2048))])


def test_a_folder_is_a_table_by_task(tmp_path: Path):
    for results in arena():
        made_up.write(results, tmp_path)
    result = CliRunner().invoke(app, ["table", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "Average" in result.output
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no result files" in str(CliRunner().invoke(app, ["table", str(empty)]).exception)


def test_lra_is_its_six_tasks():
    lra = suite_collections.load("lra")
    assert lra is not None
    loaded = [suites.load(name) for name in lra.suites]
    assert [suite.workload.replace("-", "_") for suite in loaded] == list(ARENA)
    assert all(suite.lengths == (LENGTHS[suite.workload.replace("-", "_")],) for suite in loaded)
    assert suite_collections.load("ci") is None
    with pytest.raises(UsageError, match="is a collection of suites"):
        suites.load("lra")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("suites: [ci]\nbaseline: transformer\n", "description"),
        ("description: x\nsuites: []\nbaseline: transformer\n", "suites"),
        ("description: x\nsuites: [cii]\nbaseline: transformer\n", "did you mean 'ci'"),
        ("description: x\nsuites: [ci]\nbaseline: s4\n", "'s4' is not a model of ci"),
    ],
)
def test_collections_are_read_strictly(tmp_path: Path, content: str, words: str):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UsageError, match=words):
        suite_collections.load(str(path))


def test_lengths_are_the_suites_own(tmp_path: Path):
    lra = suite_collections.load("lra")
    assert lra is not None
    with pytest.raises(UsageError, match="lengths of their own"):
        collection.run(lra, Request(suite="lra", out=tmp_path / "run.jsonl", overrides={"lengths": [64]}))
    with pytest.raises(UsageError, match="is not a folder"):
        collection.run(lra, Request(suite="lra", out=tmp_path / "a", resume=tmp_path / "none"))


def test_the_baseline_stands_among_the_models_named():
    named = collection._with_baseline({"implementations": ["seqboat"]}, "mega-chunk")
    assert named == {"implementations": ["mega-chunk", "seqboat"], "baseline": "mega-chunk"}
    own = {"implementations": ["seqboat", "s4"], "baseline": "s4"}
    assert collection._with_baseline(own, "mega-chunk") == own
    assert collection._with_baseline({}, "mega-chunk") == {"baseline": "mega-chunk"}


@pytest.fixture
def both(write_suite, tmp_path: Path) -> Collection:
    """A collection of two suites, the second of which is named so."""
    first = Path(write_suite("fault_models:tiny"))
    second = first.with_name("second.yaml")
    second.write_text(first.read_text().replace("workload: text", "workload: listops"))
    path = tmp_path / "both.yaml"
    path.write_text(f"description: two\nsuites: [{first}, {second}]\nbaseline: fault_models:tiny\n")
    found = suite_collections.load(str(path))
    assert found is not None
    return found


@pytest.fixture
def request_of_both(both: Collection, tmp_path: Path) -> Request:
    command = ["bench", "run", "--suite", "both.yaml"]
    out = tmp_path / "runs.jsonl"
    return Request(suite="both.yaml", out=out, device="cpu", threads=1, quick=True, command=command)


@pytest.mark.usefixtures("plug_ins")
def test_a_collection_runs_into_a_folder_and_goes_on(both, request_of_both, tmp_path: Path):
    request = request_of_both
    outcome = collection.run(both, request)
    assert outcome.complete
    first = both.files[0].path
    assert sorted(file.name for file in (tmp_path / "runs").iterdir()) == sorted(
        [f"{first.stem}.jsonl", "second.jsonl"]
    )
    (tmp_path / "runs" / "second.jsonl").write_bytes(b'{"type":"hea')
    kept = (tmp_path / "runs" / f"{first.stem}.jsonl").read_bytes()
    resumed = replace(request, out=tmp_path / "x", resume=tmp_path / "runs")
    assert len(collection.run(both, resumed).runs) == 2
    assert (tmp_path / "runs" / f"{first.stem}.jsonl").read_bytes() == kept


@pytest.mark.parametrize("content", [None, b"", b'{"type":"hea'])
@pytest.mark.usefixtures("plug_ins")
def test_a_suite_that_was_cut_off_before_its_header_is_begun(
    both, request_of_both, tmp_path: Path, monkeypatch, content
):
    folder = tmp_path / "runs"
    folder.mkdir()
    if content is not None:
        (folder / "second.jsonl").write_bytes(content)
    asked = []

    def run(part: Request, resumed_by: Path) -> session.Outcome:
        asked.append((part.resume and part.resume.name, resumed_by))
        return session.Outcome(str(part.out), [made_up.results()], False, "")

    monkeypatch.setattr(session, "run", run)
    collection.run(both, replace(request_of_both, resume=folder))
    assert asked == [(None, folder), (None if content is None else "second.jsonl", folder)]


@pytest.mark.usefixtures("plug_ins")
def test_ctrl_c_before_a_later_suites_header_keeps_those_before_it(
    both, request_of_both, tmp_path: Path, monkeypatch
):
    def run(part: Request, resumed_by: Path) -> session.Outcome:
        if part.out.stem in interrupted:
            raise KeyboardInterrupt
        return session.Outcome(str(part.out), [made_up.results()], False, "")

    monkeypatch.setattr(session, "run", run)
    interrupted = {"second"}
    outcome = collection.run(both, request_of_both)
    assert (len(outcome.runs), outcome.interrupted) == (1, True)
    assert outcome.resume_line == f"bench run --suite both.yaml --resume {tmp_path / 'runs'}"
    interrupted = {both.files[0].path.stem}
    with pytest.raises(KeyboardInterrupt):
        collection.run(both, request_of_both)


@pytest.mark.usefixtures("plug_ins")
def test_a_full_disk_names_the_folder_of_a_collection(both, request_of_both, tmp_path: Path, monkeypatch):
    def measure(request, suite, executor, path):
        path.parent.mkdir()
        raise NotWritten("record 2 could not be written")

    monkeypatch.setattr(session, "_measure", measure)
    folder = tmp_path / "runs"
    with pytest.raises(UsageError, match=f"resume with: bench run --suite both.yaml --resume {folder}$"):
        collection.run(both, request_of_both)
