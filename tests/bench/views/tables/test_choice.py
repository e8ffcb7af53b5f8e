"""What a user wants of a table: the same options for every table, in every format."""

import csv
import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import UsageError
from bench.measure import memory_needs, session
from bench.records.solo import MemoryFigure
from bench.suites.suite import BatchSizes
from bench.text.units import format_duration, significant
from bench.views.tables.choice import Choice
from bench.views.tables.columns import later_columns
from bench.views.tables.formats import FORMATS, render
from bench.views.tables.table import build_table

from ...made_up import CPU, results, write

MODELS = ("transformer", "s4", "seqboat")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, list[str]]:
    """The words of each command that prints a table of made-up runs."""
    folder = tmp_path_factory.mktemp("runs")
    one, other = (
        str(write(results(MODELS, (4096,), path=name, workload="text"), folder)) for name in ("a", "b")
    )
    arena = tmp_path_factory.mktemp("arena")
    for workload, length in (("text", 4096), ("image", 1024)):
        write(results(MODELS, (length,), path=f"{workload}.jsonl", workload=workload), arena)
    return {
        "table": ["table", one],
        "folder": ["table", str(arena)],
        "compare": ["compare", one, other, "--force"],
        "plan": ["plan", "--suite", "lra-text-4k", "--device", "cpu", "--from", one],
        "list": ["list", "implementations"],
    }


SORTED_BY = {"table": "ms/step", "folder": "text", "compare": "A step", "plan": "text", "list": "title"}
CHOSEN = {"table": "speed", "folder": "text", "compare": "speed", "plan": "text", "list": "title"}
FIELDS = {("plan", "csv"): "hours", ("plan", "json"): "hours", ("folder", "json"): "speed_average"}
every_command = pytest.mark.parametrize("name", sorted(SORTED_BY))
every_format = pytest.mark.parametrize("form", FORMATS)


def bench(*words: str | Path) -> str:
    finished = CliRunner().invoke(app, list(map(str, words)))
    assert finished.exit_code == 0, (finished.output, finished.exception)
    return finished.stdout


def refused(*words: str) -> str:
    finished = CliRunner().invoke(app, list(words))
    assert isinstance(finished.exception, UsageError), finished.output
    return str(finished.exception)


@every_command
@every_format
def test_rows_rename_and_out(name, form, files, tmp_path):
    options = ["--rows", "seqboat", "--rename", "seqboat=Ours", "--format", form]
    text = bench(*files[name], *options)
    assert "Ours" in text
    assert "Transformer:" not in text
    target = tmp_path / "table.txt"
    assert bench(*files[name], *options, "-o", target) == ""
    assert target.read_text().split() == text.split()


@every_command
@every_format
def test_columns(name, form, files):
    chosen = FIELDS.get((name, form), CHOSEN[name])
    text = bench(*files[name], "--columns", chosen, "--no-notes", "--format", form)
    whole = bench(*files[name], "--no-notes", "--format", form)
    assert len(text) < len(whole)


@every_command
@every_format
def test_digits(name, form, files):
    """A third as large a table of figures, or as large a one: never an exponent in what people read."""
    few, many = (bench(*files[name], "--no-notes", "--digits", digits, "--format", form) for digits in "19")
    if name != "list":
        assert len(few) < len(many)
    assert "e-0" not in few


@every_command
@every_format
def test_sort(name, form, files):
    assert bench(*files[name], "--sort", SORTED_BY[name], "--format", form)


@pytest.mark.parametrize(
    ("name", "sort", "titles"),
    [
        ("table", "ms/step", ["SeqBoat", "S4", "Transformer"]),
        ("table", "speed", ["SeqBoat", "S4", "Transformer"]),
        ("table", "model", ["S4", "SeqBoat", "Transformer"]),
        ("folder", "text", ["SeqBoat", "S4", "Transformer"]),
    ],
)
def test_sort_orders_rows_alike_in_every_format(name, sort, titles, files):
    words = [*files[name], "--sort", sort, "--no-notes", "--format"]
    assert [row["title"] for row in json.loads(bench(*words, "json"))] == titles
    shown = [line.split("  ")[0] for line in bench(*words, "terminal").split("\n\n")[0].splitlines()]
    assert [line for line in shown if line in titles] == titles
    models = [line["model"] for line in csv.DictReader(bench(*words, "csv").splitlines())]
    assert [
        {"s4": "S4", "seqboat": "SeqBoat"}.get(one, "Transformer") for one in dict.fromkeys(models)
    ] == titles


@every_command
def test_no_notes(name, files):
    assert len(bench(*files[name], "--no-notes")) <= len(bench(*files[name]))
    assert "Mem:" not in bench(*files[name], "--no-notes")


@pytest.mark.parametrize("form", [form for form in FORMATS if form not in ("csv", "json")])
def test_an_x_has_its_reason_without_the_notes_too(form, tmp_path):
    failed = write(results(MODELS, failed={"s4": "oom", "seqboat": "timeout"}), tmp_path)
    text = bench("table", failed, "--no-notes", "--format", form)
    assert "Tried to allocate 64.0 GiB" in text
    assert "no answer within 120 s" in text
    assert "Mem:" not in text
    one = bench("table", failed, "--no-notes", "--format", form, "--rows", "transformer,s4")
    assert "no answer" not in one
    assert "Tried" not in bench("table", failed, "--no-notes", "--format", form, "--columns", "params")


def test_rows_of_several_grids_stay_beside_each_other(files):
    words = [*files["folder"], "--sort", "text", "--no-notes"]
    grids = [[line.split("  ")[0] for line in part.splitlines()[2:]] for part in bench(*words).split("\n\n")]
    assert len(grids) == 3
    assert grids[0] == grids[1] == grids[2]
    (memory,) = bench(*words, "--columns", "mem").strip().split("\n\n")
    least = [float(line.split()[2]) for line in memory.splitlines()[2:]]
    assert least == sorted(least)


def test_new_names_stand_in_notes_and_in_the_lines_that_explain_columns_too():
    made = build_table(results(MODELS, (256,), failed={"s4": "oom"}))
    choice = Choice(rename={"S4": "Theirs", "mem": "Memory", "Transformer": "Attention"})
    text = render(made, "markdown", choice)
    assert "Theirs at 256: out of memory" in text
    assert "S4" not in text
    assert "Memory: exact peak of live tensor bytes" in text
    assert "Mem:" not in text
    assert "Speed (× Attention)" in text
    assert "Transformer" not in text


def test_a_title_within_another_keeps_its_name():
    made = build_table(
        results(("transformer", "transformer-sdpa", "seqboat"), (256,), failed={"transformer-sdpa": "oom"})
    )
    other = next(row.title for row in made.rows if row.model == "transformer-sdpa")
    assert other.startswith("Transformer")
    text = render(made, "terminal", Choice(rename={"transformer": "Plain"}))
    assert f"{other} at 256" in text
    assert "(× Plain)" in text


def test_a_baseline_without_a_row_has_a_new_name():
    made = build_table(results(MODELS), models=["seqboat"])
    assert "(× TF)" in render(made, "terminal", Choice(rename={"Transformer": "TF"})).replace("\n", " ")


def test_fields_of_csv_are_chosen_by_their_name_or_by_the_columns():
    made = build_table(results(MODELS, blocks=3))
    choice = Choice(columns=["95% interval", "mem", "seed"], rename={"mem": "memory"}, digits=2, sort="mem")
    lines = list(csv.reader(render(made, "csv", choice).splitlines()))
    assert lines[0] == ["model", "speed_low", "speed_high", "memory", "seed"]
    ratios = [float(line[3]) for line in lines[1:]]
    assert ratios == sorted(ratios)
    assert ratios[0] == float(significant(min(row.memory_ratio for row in made.rows), 2))
    with pytest.raises(UsageError, match="--rename 95% interval: is more than one field"):
        render(made, "csv", Choice(rename={"95% interval": "x"}))


def test_what_a_table_lacks_is_named(files):
    assert "--columns sped: did you mean 'speed'?" in refused(*files["compare"], "--columns", "sped")
    assert "--sort nothing: choose listops, text, " in refused(*files["folder"], "--sort", "nothing").lower()
    assert "--rename mega=x: did you" not in refused(*files["table"], "--rename", "mega=x")
    assert "--rows seqbot: did you mean 'seqboat'?" in refused(*files["plan"], "--rows", "seqbot")
    assert "where the table goes; " in refused(*files["table"], "-o", "x.jsonl")
    assert "no such folder" in refused(*files["table"], "-o", "nowhere/x.txt")


def test_one_of_several_grids_by_its_first_column(files):
    text = bench(*files["folder"], "--columns", "mem,text", "--no-notes")
    assert "Speed" not in text
    assert "Image" not in text
    assert "Mem (× Transformer)" in text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1234.5, 2, "1234"),
        (99.96, 3, "100"),
        (9.996, 3, "10.0"),
        (0.0123456, 3, "0.0123"),
        (1e-7, 2, "0.00000010"),
        (0.0, 3, "0"),
        (-2.345, 2, "-2.3"),
    ],
)
def test_significant_digits(value, digits, text):
    assert significant(value, digits) == text


def test_milliseconds_have_three_digits():
    assert [format_duration(seconds) for seconds in (0.00412, 0.0345, 0.85)] == [
        "4.12 ms",
        "34.5 ms",
        "850 ms",
    ]
    assert format_duration(3.14159, 4) == "3.142 s"


def test_an_export_may_go_into_a_file(files, tmp_path):
    record, target = files["table"][1], tmp_path / "export.json"
    text = bench("export", record, "--format", "bencher")
    assert bench("export", record, "--format", "bencher", "-o", target) == ""
    assert json.loads(target.read_text()) == json.loads(text)
    assert "is one of the files that are read" in refused("export", record, "--format", "junit", "-o", record)


def test_what_tells_rows_apart_stays_whichever_columns_are_chosen():
    """Two batches, and three rates of one model: without them its rows would be the same."""
    run = results(["transformer", "seqboat"], batch=BatchSizes(cpu=(1, 4)), activation=(0.1, 0.3))
    table = build_table(run)
    header, *lines = csv.reader(render(table, "csv", Choice(columns=["speed_ratio"])).splitlines())
    assert header == ["model", "batch", "activation_rate", "speed_ratio"]
    assert len({tuple(line[:3]) for line in lines}) == len(lines)
    shown = render(table, "markdown", Choice(columns=["mem", "batch"]))
    assert shown.splitlines()[0] == "| Model | Activation | Mem (× Transformer) | Batch |"


def test_a_setting_that_is_equal_in_all_rows_has_its_column_if_it_is_named():
    table = build_table(results(["transformer", "seqboat"]))
    assert "Precision" not in render(table, "markdown")
    assert "| Model | Precision |" in render(table, "markdown", Choice(columns=["precision"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--columns", "speed,foo"], "--columns foo: choose model"),
        (["--sort", "foo"], "--sort foo: choose model"),
        (["--rows", "foo"], "--rows foo: choose transformer"),
        (["--columns", "graph breaks"], "--columns graph breaks: choose model"),
        (["--columns", "speed,width"], "--columns width: choose model"),
        (["--max-batch", "8GiB", "--columns", "foo"], "--columns foo: choose model"),
    ],
)
def test_a_run_is_refused_before_it_measures_what_its_table_will_lack(words, message, tmp_path, monkeypatch):
    for module in (session, memory_needs):
        monkeypatch.setattr(module, "probe_environment", lambda *_: CPU)
    monkeypatch.setattr(session, "_measure", None)
    monkeypatch.setattr(memory_needs, "ForkServer", None)
    kept = [] if "--max-batch" in words else ["--out", str(tmp_path / "run.jsonl")]
    assert message in refused("run", "--suite", "ci", *kept, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_run_may_ask_for_columns_that_only_its_figures_bring():
    run = results(["transformer"], modes=("eager", "compile"))
    later = later_columns(run.header.suite, "cpu")
    Choice(columns=["mfu", "first step"], sort="mfu").check(build_table(run), "terminal", later)
    later = later_columns(results().header.suite, "cpu")
    with pytest.raises(UsageError, match="--columns first step: choose"):
        Choice(columns=["first step"]).check(build_table(results()), "terminal", later)


def test_the_first_column_may_stand_alone():
    table = build_table(results(["transformer", "seqboat"]))
    assert render(table, "markdown", Choice(columns=["model"])).splitlines()[0] == "| Model |"


@pytest.mark.parametrize("command", ["report", "plot"])
def test_an_output_never_takes_its_inputs_place_by_another_name_of_it(command, tmp_path):
    record = write(results(MODELS), tmp_path)
    before = record.read_bytes()
    for name, link in (("hard.jsonl", "hardlink_to"), ("soft.jsonl", "symlink_to")):
        getattr(tmp_path / name, link)(record)
        told = refused(command, str(record), "-o", str(tmp_path / name))
        assert "is one of the files that are read" in told
    assert record.read_bytes() == before


def test_memory_that_is_not_known_has_its_reason_below_the_table():
    run = results(MODELS)
    unknown = MemoryFigure(kind="tensor_bytes", bytes=None, unavailable="the model is compiled")
    solos = {
        name: msgspec.structs.replace(
            solo, memory=[unknown] if solo.case.implementation == "s4" else solo.memory
        )
        for name, solo in run.solos.items()
    }
    notes = build_table(msgspec.structs.replace(run, solos=solos)).notes
    assert "no memory of S4 at 4096: the model is compiled" in notes


def test_a_row_with_a_setting_is_renamed(tmp_path):
    path = write(results(["transformer", "seqboat(window=64)"]), tmp_path)
    for old in ("seqboat(window=64)", "SeqBoat (window=64)"):
        assert "Ours" in bench("table", path, "--rename", f"{old}=Ours")
    assert "OLD=NEW" in refused("table", str(path), "--rename", "seqboat(window=64)")


@pytest.mark.parametrize("new", ["s4=SeqBoat", "speed=mem"])
def test_two_never_get_one_name(files, new):
    assert "another has that name" in refused(*files["table"], "--rename", new)


def test_the_ending_of_a_file_chooses_its_format(files, tmp_path):
    for ending, begin in (
        ("csv", "model,"),
        ("md", "| Model"),
        ("html", "<table"),
        ("tex", "\\"),
        ("txt", "Model"),
    ):
        path = tmp_path / f"table.{ending}"
        done = CliRunner().invoke(app, [*files["table"], "-o", str(path)])
        assert done.exit_code == 0, done.output
        assert path.read_text().lstrip("% ").startswith(begin), ending
    assert "a table ends in .md, .tex" in refused(*files["table"], "-o", str(tmp_path / "x.pdf"))
    json_, csv = tmp_path / "x.json", tmp_path / "x.txt"
    assert CliRunner().invoke(app, [*files["table"], "-o", str(json_)]).exit_code == 0
    assert isinstance(json.loads(json_.read_text()), list)
    assert CliRunner().invoke(app, [*files["table"], "--format", "csv", "-o", str(csv)]).exit_code == 0
    assert csv.read_text().startswith("model,")
