"""The result store and histories: what is kept is found, lines never mix, and changes of level are marked."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import UsageError
from bench.records.reading import read
from bench.stats.levels import change_points, level_ratio

from ..in_process import bench
from ..made_up import CPU, results, write

pytest.importorskip("duckdb", reason='needs pip install "seqboat-bench[store]"')
pytest.importorskip("ruptures", reason='needs pip install "seqboat-bench[store]"')

from bench.records import store as result_store
from bench.views import history
from bench.views.history_text import HistoryTable
from bench.views.tables.choice import Choice
from bench.views.tables.formats import render

MODELS = ["transformer", "seqboat"]
GPU = msgspec.structs.replace(CPU, device="cuda:0", hardware="a GPU", driver="1", cuda="13.0")


def commit(number: int) -> str:
    return hashlib.sha1(str(number).encode()).hexdigest()


@pytest.fixture
def keep(tmp_path):
    """Store a run of a commit, and return where it lies."""
    folder = tmp_path / "store"
    runs = tmp_path / "runs"
    runs.mkdir()

    def add(number: int, *, factor: float = 1.0, hour: int = 0, environment=CPU, **changes):
        made = results(
            MODELS,
            environment=msgspec.structs.replace(environment, commit=commit(number)),
            created=f"2026-01-{number + 1:02d}T{hour:02d}:00:00+00:00",
            path=f"{len(list(runs.iterdir()))}.jsonl",
            **changes,
        )
        # As if only SeqBoat had become slower.
        slowed = [
            msgspec.structs.replace(sample, seconds=sample.seconds * factor)
            if sample.case_id.startswith("seqboat")
            else sample
            for sample in made.samples
        ]
        return result_store.add(write(msgspec.structs.replace(made, samples=slowed), runs), folder)

    add.folder = folder
    add.runs = runs
    return add


def test_a_stored_run_lies_in_its_partition_and_is_a_result_file(keep):
    place = keep(0)
    expected = f"suite=made-up/device=cpu/commit={commit(0)}/20260101T000000-"
    assert str(place.relative_to(keep.folder)).startswith(expected)
    source = read(keep.runs / "0.jsonl")
    assert msgspec.structs.replace(read(place), path=source.path) == source


def test_names_that_are_no_file_names_are_found_again(tmp_path):
    made = results(MODELS, environment=msgspec.structs.replace(CPU, commit=commit(0)))
    header = msgspec.structs.replace(
        made.header, suite=msgspec.structs.replace(made.header.suite, name="a/ü '..")
    )
    path = write(msgspec.structs.replace(made, header=header), tmp_path)
    folder = tmp_path / "it's [a] store=*"
    place = result_store.add(path, folder)
    assert place.parent.parent.parent.parent == folder
    (found,) = result_store.find(folder, "a/ü '..", "seqboat")
    assert (found.path, found.commit) == (place, commit(0))


def test_the_same_run_is_stored_once_and_may_grow(keep):
    place = keep(0)
    run = keep.runs / "0.jsonl"
    whole = run.read_bytes()
    lines = whole.splitlines(keepends=True)
    place.write_bytes(b"".join(lines[:-3]))
    assert result_store.add(run, keep.folder) == place
    assert place.read_bytes() == whole
    run.write_bytes(b"".join(lines[:-3]) + lines[-3][:5])
    with pytest.raises(UsageError, match="the store has more of this run"):
        result_store.add(run, keep.folder)
    assert place.read_bytes() == whole
    assert len(list(keep.folder.rglob("*.*"))) == 1


@pytest.mark.parametrize(
    ("environment", "words"),
    [({"commit": None}, "which commit it measured"), ({"dirty": True}, "uncommitted changes")],
)
def test_a_run_of_no_commit_needs_one_by_name(environment, words, tmp_path):
    path = write(results(MODELS, environment=msgspec.structs.replace(CPU, **environment)), tmp_path)
    with pytest.raises(UsageError, match=words) as caught:
        result_store.add(path, tmp_path / "store")
    assert "--commit" in str(caught.value)
    place = result_store.add(path, tmp_path / "store", commit(7))
    assert place.parent.name == f"commit={commit(7)}"
    for named in ("main", "../../up", commit(7)[:9]):
        with pytest.raises(UsageError, match="whole hash"):
            result_store.add(path, tmp_path / "store", named)


def test_a_query_sees_every_run(keep):
    keep(0)
    keep(1, environment=GPU)
    rows = result_store.query(keep.folder, "SELECT device, hardware FROM runs ORDER BY created").rows
    assert rows == [("cpu", "a processor"), ("cuda", "a GPU")]
    rows = result_store.query(keep.folder, 'SELECT "commit", count(*) FROM samples GROUP BY ALL').rows
    assert dict(rows) == {commit(0): 24, commit(1): 24}
    sql = "SELECT max(parameters), min(activation_rate) FROM cases WHERE implementation = 'seqboat'"
    assert result_store.query(keep.folder, sql).rows == [(600_000, pytest.approx(0.3))]


@pytest.mark.parametrize("name", ["runs [1]", "a*b?", "it's {a,b}"])
def test_a_store_may_have_any_name(keep, tmp_path, name):
    folder = tmp_path / name
    keep(0)
    result_store.add(keep.runs / "0.jsonl", folder)
    ((file,),) = result_store.query(folder, "SELECT file FROM runs").rows
    assert Path(file).is_relative_to(folder)


def test_decimals_are_sorted_as_the_numbers_that_they_are(keep):
    keep(0)
    values = "(VALUES ('a', 10.25), ('b', 9.5)) AS t(name, amount)"
    sql = f"SELECT name, amount::DECIMAL(9, 3) AS amount FROM {values}"
    words = ["store", "query", "--store", str(keep.folder), "--sort", "amount", "--digits", "2", sql]
    shown = CliRunner().invoke(app, words)
    assert [line.split() for line in shown.stdout.splitlines()[-2:]] == [["b", "9.5"], ["a", "10"]]


@pytest.mark.parametrize("sql", ["SELECT nothing", "", ";", "SELECT 1 FROM elsewhere", "SELEC"])
def test_a_query_that_cannot_be_answered_is_one_line(sql, keep):
    keep(0)
    finished = bench("store", "query", sql, "--store", keep.folder)
    assert finished.returncode == 2
    assert finished.stderr.startswith("bench: ")
    assert finished.stderr.count("\n") == 1


def test_what_the_store_lacks_is_said(keep, tmp_path):
    with pytest.raises(UsageError, match="holds no runs"):
        result_store.find(tmp_path / "none", "made-up", "seqboat")
    keep(0)
    with pytest.raises(UsageError, match="its models there: seqboat, transformer"):
        result_store.find(keep.folder, "made-up", "mega")
    with pytest.raises(UsageError, match="its suites: made-up"):
        result_store.find(keep.folder, "ci", "mega")


def seqboat(keep, **options):
    return history.history(keep.folder, "seqboat", "made-up", **options)


def test_a_new_level_is_marked_at_its_first_commit(keep):
    for number in range(8):
        keep(number, factor=1.25 if number >= 4 else 1.0)
    (line,) = seqboat(keep).lines
    (change,) = line.changes
    assert (change.after, change.commit) == (commit(3), commit(4))
    assert change.ratio == pytest.approx(0.8)
    assert all(point.low < point.value < point.high for point in line.points)
    (memory,) = seqboat(keep, figure="memory").lines
    assert memory.changes == []
    assert [(point.low, point.high) for point in memory.points] == [(None, None)] * 8
    (step,) = seqboat(keep, figure="step").lines
    assert step.changes[0].ratio == pytest.approx(1.25)
    assert step.points[0].low < step.points[0].value < step.points[0].high


def test_machines_data_and_settings_never_share_a_line(keep):
    keep(0)
    keep(1, environment=GPU)
    keep(2, environment=msgspec.structs.replace(CPU, threads=4))
    keep(3, environment=msgspec.structs.replace(CPU, torch="2.14.0"))
    keep(4, lengths=[1024])
    keep(5, environment=msgspec.structs.replace(CPU, variables={"OMP_WAIT_POLICY": "passive"}))
    lines = seqboat(keep).lines
    assert [len(line.points) for line in lines] == [1] * 6
    assert len({line.name for line in lines}) == 6
    assert {(line.device, line.threads, line.torch) for line in lines} == {
        ("cpu", 2, "2.13.0"), ("cuda:0", 2, "2.13.0"), ("cpu", 4, "2.13.0"), ("cpu", 2, "2.14.0")
    }  # fmt: skip


def test_the_newest_run_of_a_commit_stands_and_a_failure_keeps_its_place(keep):
    keep(0)
    keep(0, hour=5, factor=2.0)
    keep(1, failed={"seqboat": "oom"})
    (line,) = seqboat(keep, figure="step").lines
    first, second = line.points
    assert first.created.endswith("T05:00:00+00:00")
    assert (second.status, second.value) == ("oom", None)
    text = as_text(seqboat(keep))
    assert f"X  {commit(1)[:9]}: oom, Tried to allocate" in text


def test_a_baseline_has_no_speed_of_its_own(keep):
    keep(0)
    with pytest.raises(UsageError, match="its own baseline"):
        history.history(keep.folder, "transformer", "made-up")
    (line,) = history.history(keep.folder, "transformer", "made-up", baseline="seqboat").lines
    assert line.points[0].value < 1
    with pytest.raises(UsageError, match="choose speed, step, memory"):
        seqboat(keep, figure="colour")


def test_an_answer_has_two_columns_of_one_name_never(keep):
    keep(0)
    with pytest.raises(UsageError, match="two columns the name a"):
        result_store.query(keep.folder, "SELECT 1 AS a, 2 AS a")


def test_an_answer_has_the_options_of_all_tables(keep):
    keep(0)
    sql = "SELECT implementation, step_seconds FROM cases WHERE length = {} ORDER BY 1"
    words = ["store", "query", "--store", str(keep.folder), "--format", "csv"]
    chosen = ["--rows", "seqboat", "--rename", "step_seconds=Seconds", "--digits", "2"]
    shown = CliRunner().invoke(app, [*words, *chosen, sql.format(4096)])
    assert shown.stdout.splitlines() == ["implementation,Seconds", "seqboat,0.5"]
    empty = CliRunner().invoke(app, ["store", "query", "--store", str(keep.folder), sql.format(1)])
    assert empty.stdout.split()[:2] == ["implementation", "step_seconds"]


def as_text(found: history.History) -> str:
    return render(HistoryTable.of([found]), "terminal")


def test_its_table_has_the_options_of_all_tables(keep):
    keep(0)
    keep(1, lengths=[512, 1024])
    table = HistoryTable.of([seqboat(keep)])
    rows = render(table, "csv", Choice(columns=["speed", "commit"], digits=2)).splitlines()
    assert rows[0].startswith("line,value")
    assert len(rows) == 1 + sum(len(line.points) for line in seqboat(keep).lines)
    (one,) = HistoryTable.of([seqboat(keep)], [commit(0)[:9]]).rows
    assert one.point.commit == commit(0)
    with pytest.raises(UsageError, match="--rows nothing: choose"):
        HistoryTable.of([seqboat(keep)], ["nothing"])


def test_commits_stand_in_the_repository_s_order(keep, tmp_path, monkeypatch):
    """Measured in the reverse order: the newest commit first."""
    repository = tmp_path / "repository"
    repository.mkdir()

    def git(*words: str, **environment: str) -> str:
        who = ("-c", "user.name=n", "-c", "user.email=e")
        finished = subprocess.run(
            ["git", "-C", str(repository), *who, *words],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )
        return finished.stdout.strip()

    git("init", "--quiet")
    hashes = []
    for number in range(3):
        date = f"2026-01-0{number + 1}T00:00:00+0000"
        git("commit", "--allow-empty", "-m", f"change {number}", GIT_COMMITTER_DATE=date)
        hashes.append(git("rev-parse", "HEAD"))
    for number, name in enumerate(reversed(hashes)):
        path = keep(number)
        result_store.add(path, tmp_path / "other", name)
    monkeypatch.chdir(repository)
    found = history.history(tmp_path / "other", "seqboat", "made-up")
    assert found.order == "commit"
    assert [point.commit for point in found.lines[0].points] == hashes
    assert [point.subject for point in found.lines[0].points] == ["change 0", "change 1", "change 2"]
    monkeypatch.chdir(tmp_path)
    found = history.history(tmp_path / "other", "seqboat", "made-up")
    assert (found.order, [point.commit for point in found.lines[0].points]) == ("measurement", hashes[::-1])


def test_the_command_line_adds_shows_and_draws(keep, tmp_path):
    pytest.importorskip("vl_convert", reason='needs pip install "seqboat-bench[report]"')
    for number in range(6):
        keep(number, factor=2.0 if number >= 3 else 1.0)
    shutil.rmtree(keep.folder)
    added = bench("store", "add", *sorted(keep.runs.iterdir()), cwd=tmp_path)
    assert added.returncode == 0, added.stderr
    assert added.stdout.count(f"results/store/suite=made-up/device=cpu/commit={commit(5)}/") == 1
    words = ["history", "--model", "seqboat", "--suite", "made-up"]
    shown = bench(*words, "-o", "history.svg", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "× 0.5 (" in shown.stdout
    picture = (tmp_path / "history.svg").read_text(encoding="utf-8")
    assert "× 0.5 (" in picture
    assert commit(5)[:9] in picture
    assert "a processor, cpu, 2 threads, torch 2.13.0" in picture
    (line,) = json.loads(bench(*words, "--json", cwd=tmp_path).stdout)["lines"]
    assert line["changes"][0]["commit"] == commit(3)


@pytest.mark.parametrize(
    ("library", "ask"),
    [("duckdb", lambda keep: result_store.query(keep.folder, "SELECT 1")), ("ruptures", seqboat)],
)
def test_a_missing_library_is_one_line_with_the_command(library, ask, keep, monkeypatch):
    for number in range(6):
        keep(number)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=rf'needs {library}: pip install "seqboat-bench\[store\]"'):
        ask(keep)


def calls_of(function) -> int:
    """Calls of functions, Python's own and those of libraries: as many on a loaded machine."""
    count = 0

    def see(frame, event, argument) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_the_work_of_a_history_grows_with_its_runs_only(keep):
    """Not with their square, as a search in Python for changes would: 3,000 runs took minutes."""
    counts = []
    keep(0)
    as_text(seqboat(keep))  # what is done once
    for number in range(120):
        keep(number % 28, hour=number // 28, environment=msgspec.structs.replace(CPU), data="made up")
        if number + 1 in (30, 60, 120):
            counts.append(calls_of(lambda: as_text(seqboat(keep))))
    few, twice, four_times = counts
    assert four_times - twice <= 2.2 * (twice - few)


@pytest.mark.parametrize("series", ["even", "step", "spikes"])
def test_the_work_of_finding_changes_grows_with_the_values_only(series):
    random = np.random.default_rng(0)

    def values(count: int):
        made = {
            "even": np.exp(random.normal(0, 0.01, count)),
            "step": np.where(np.arange(count) < count // 2, 1.0, 1.3) * np.exp(random.normal(0, 0.01, count)),
            # Hardly any noise but spikes: many changes are proposed, and dropped again.
            "spikes": np.where(random.random(count) < 0.1, 1.5, 1.0),
        }
        return list(made[series])

    few, many = (calls_of(lambda count=count: change_points(values(count))) for count in (300, 1200))
    assert many <= 5 * few


@pytest.mark.parametrize("seed", range(10))
def test_the_search_in_c_finds_what_the_one_in_python_does(seed):
    """Where levels stand out from the noise: in noise alone both leave out what their pruning takes away."""
    import ruptures

    random = np.random.default_rng(seed)
    factors = random.choice([0.5, 1.5, 2.0], size=4)
    levels = np.repeat(np.cumsum(np.log(factors)), random.integers(5, 15, size=4))
    logs = (levels + random.normal(scale=0.02, size=len(levels))).reshape(-1, 1)
    found = ruptures.KernelCPD(kernel="linear", min_size=3).fit(logs).predict(pen=0.1)
    assert found == ruptures.Pelt(model="l2", min_size=3, jump=1).fit(logs).predict(pen=0.1)
    assert len(found) == 4


def test_a_picture_of_thousands_of_commits(keep):
    """No part of it is as deep as there are commits: vega's parser calls itself for each level."""
    pytest.importorskip("altair", reason='needs pip install "seqboat-bench[report]"')
    from bench.views.charts import history as chart
    from bench.views.charts import site as site_chart
    from bench.views.charts.looks import looks_of

    keep(0)
    found = seqboat(keep)
    (line,) = found.lines
    looks = looks_of([("SeqBoat", "SeqBoat")])
    points = [msgspec.structs.replace(line.points[0], commit=commit(number)) for number in range(3000)]
    line = msgspec.structs.replace(line, points=points)
    many = msgspec.structs.replace(found, lines=[line])
    drawn = [chart.specification(many), site_chart.specification([("SeqBoat", line)], "speed", looks)]
    assert not any(
        isinstance(sort, list) and len(sort) > 10 for spec in drawn for sort in values_of(spec, "sort")
    )
    vl_convert = pytest.importorskip("vl_convert", reason='needs pip install "seqboat-bench[report]"')
    assert commit(2999)[:9] in vl_convert.vegalite_to_svg(drawn[0])


def values_of(spec, name: str):
    """What stands under that key, at any depth."""
    if isinstance(spec, dict):
        yield from (value for key, value in spec.items() if key == name)
    for value in spec.values() if isinstance(spec, dict) else spec if isinstance(spec, list) else ():
        yield from values_of(value, name)


@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=30))
def test_levels_are_as_long_as_promised(values):
    edges = [0, *change_points(values), len(values)]
    assert edges == sorted(edges)
    assert len(edges) == 2 or min(np.diff(edges)) >= 3


@pytest.mark.parametrize("length", [6, 12, 40])
def test_noise_alone_shows_hardly_any_change(length):
    random = np.random.default_rng(length)
    false = sum(bool(change_points(np.exp(random.normal(0, 0.02, length)))) for _ in range(200))
    assert false <= 6


@pytest.mark.parametrize("place", [3, 10, 17])
def test_a_step_is_found_where_it_is(place):
    random = np.random.default_rng(place)
    found = 0
    for _ in range(50):
        step = np.where(np.arange(20) < place, 1.0, 1.15)
        found += change_points(step * np.exp(random.normal(0, 0.02, 20))) == [place]
    assert found >= 45


def test_the_ratio_of_levels_holds_the_truth():
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        before, after = np.exp(random.normal(0, 0.02, 5)), 1.1 * np.exp(random.normal(0, 0.02, 4))
        interval = level_ratio(before, after)
        inside += interval.low < 1.1 < interval.high
    assert 930 <= inside <= 970
    exact = level_ratio([2.0, 2.0, 2.0], [3.0, 3.0, 3.0])
    assert (exact.ratio, exact.low, exact.high) == pytest.approx((1.5, 1.5, 1.5))


def test_a_picture_of_thousands_of_commits_takes_little_work_for_each(keep):
    """Altair would copy and check each entry of a long domain a hundred times."""
    charts = pytest.importorskip("bench.views.charts.history", reason='needs "seqboat-bench[report]"')
    keep(0)
    found = seqboat(keep)
    (line,) = found.lines

    def with_commits(count: int) -> history.History:
        points = [
            msgspec.structs.replace(line.points[0], commit=f"{number:040x}"[::-1]) for number in range(count)
        ]
        return msgspec.structs.replace(found, lines=[msgspec.structs.replace(line, points=points)])

    charts.specification(with_commits(10))  # what is done once
    found_few, found_many = map(with_commits, (300, 1300))
    few, many = (calls_of(lambda one=one: charts.specification(one)) for one in (found_few, found_many))
    assert (many - few) / 1000 < 40
    axis = charts.specification(found_few)["vconcat"][0]["layer"][0]["encoding"]["x"]
    assert len(axis["scale"]["domain"]) == 300


def test_a_run_in_which_it_was_the_baseline_hides_no_other(tmp_path):
    """The suite's baseline was another once: speeds against the one that it has now are still looked at."""
    folder = tmp_path / "store"
    for number, models in enumerate([["s4", "transformer"], *[["transformer", "s4"]] * 7]):
        made = results(
            models,
            path=f"{number}.jsonl",
            environment=msgspec.structs.replace(CPU, commit=commit(number)),
            created=f"2026-01-{number + 1:02d}T00:00:00+00:00",
        )
        slow = 1.5 if number >= 4 else 1.0
        samples = [
            msgspec.structs.replace(one, seconds=one.seconds * (slow if one.case_id.startswith("s4") else 1))
            for one in made.samples
        ]
        result_store.add(write(msgspec.structs.replace(made, samples=samples), tmp_path), folder)
    found = {each.model: each for each in history.histories(folder, "made-up")}
    assert set(found) == {"s4", "transformer"}
    (line,) = found["s4"].lines
    assert [change.commit for change in line.changes] == [commit(4)]
