"""What differs never becomes one: rows keep apart, columns and names say in what."""

from pathlib import Path

import msgspec
import pytest

from bench.records.reading import Results, read
from bench.suites.suite import BatchSizes
from bench.views.charts import data as chart_data
from bench.views.tables.naming import SETTINGS
from bench.views.tables.row import Row
from bench.views.tables.table import Table, build_table

from ...made_up import CPU, results

ROOT = Path(__file__).parents[4]
MODELS = ("transformer", "seqboat")
CHANGES = {
    "Workload": {"workload": "listops"},
    "Length": {"lengths": (1024,)},
    "Batch": {"batch": BatchSizes(cpu=8)},
    "Fill": {"fill": "real"},
    "Precision": {"precision": "bf16"},
    "Phase": {"phase": "forward"},
    "Sizes": {"hyperparameters": "matched"},
    "Backend": {"backend": "torch"},
    "Mode": {"modes": "checkpoint"},
    "Seed": {"seed": 1},
    "Data": {"data": "other data"},
    "Weights": {"checkpoints": {name: f"other/{name}.safetensors" for name in MODELS}},
    "Hardware": {"environment": {"hardware": "another processor"}},
    "Device": {"environment": {"device": "cuda:0"}},
    "Threads": {"environment": {"threads": 4}},
    "Torch": {"environment": {"torch": "2.14.0"}},
    "Allocator": {"environment": {"allocator": "jemalloc"}},
    "Pairing": {"environment": {"pairing": "duet"}},
    "Variables": {"environment": {"variables": {"OMP_WAIT_POLICY": "passive"}}},
}


def two_runs(header: str) -> tuple[Results, Results]:
    """Runs that differ in one setting; the later one's Transformer takes twice as long as its SeqBoat did."""
    change = dict(CHANGES[header])
    environment = msgspec.structs.replace(CPU, **change.pop("environment", {}))
    first = {"checkpoints": {name: f"{name}.safetensors" for name in MODELS}} if header == "Weights" else {}
    later = {"created": "2026-02-02T00:00:00+00:00", "slower": 2.0, "path": "later.jsonl"}
    return results(MODELS, **first), results(MODELS, environment=environment, **later, **change)


def test_every_setting_is_tried():
    assert list(CHANGES) == [setting.header for setting in SETTINGS]


@pytest.mark.parametrize("header", CHANGES)
def test_what_differs_is_a_row_of_its_own_and_a_column(header: str):
    table = build_table(*two_runs(header))
    assert len(table.rows) == 4
    assert header in [column.header for column in table.columns if not column.on_demand]
    assert not any("is newer" in note for note in table.notes)


def test_one_thread_is_singular():
    row = build_table(results(MODELS)).rows[0]
    threads = next(setting for setting in SETTINGS if setting.header == "Threads")
    names = [threads.name(msgspec.structs.replace(row, threads=count)) for count in (1, 2, 11)]
    assert names == ["1 thread", "2 threads", "11 threads"]


def test_a_file_whose_rows_a_newer_one_has_still_says_its_batch():
    older, newer = results(MODELS), results(MODELS, created="2026-02-02T00:00:00+00:00", path="later.jsonl")
    footer = [line for line in build_table(older, newer).footer if ", batch " in line]
    assert [line.split(", batch ")[1].split()[0] for line in footer] == ["1", "1"]


@pytest.mark.parametrize("header", CHANGES)
def test_what_differs_has_a_line_of_its_own_in_charts(header: str):
    rows = build_table(*two_runs(header)).rows
    points = [(point["model"], point["length"]) for point in chart_data.ratios(rows)]
    assert len(points) == len(set(points)) == 4
    runs = two_runs(header)
    if header != "Length":
        assert len({point["model"] for point in chart_data.rounds(runs)}) == 4


def test_variables_that_only_say_where_do_not_tell_rows_apart():
    elsewhere = {"TORCHINDUCTOR_CACHE_DIR": "/tmp/another", "CUDA_VISIBLE_DEVICES": "1"}
    moved = msgspec.structs.replace(CPU, variables=elsewhere)
    later = {"created": "2026-02-02T00:00:00+00:00", "path": "later.jsonl"}
    assert len(build_table(results(MODELS), results(MODELS, environment=moved, **later)).rows) == 2


def of(table: Table, allocator: str) -> dict[str, Row]:
    return {row.model: row for row in table.rows if row.allocator == allocator}


def test_each_allocator_has_its_own_transformer():
    """Whether freed memory is kept changes a step several times over: ratios across the two mean nothing."""
    runs = [
        results(MODELS, environment=msgspec.structs.replace(CPU, allocator=name), slower=slower, path=name)
        for name, slower in (("glibc, freed memory kept", 1.0), ("as set by MALLOC_PERTURB_=0", 3.0))
    ]
    table = build_table(*runs)
    for name in ("glibc, freed memory kept", "as set by MALLOC_PERTURB_=0"):
        rows = of(table, name)
        assert rows["transformer"].speed_ratio == 1.0
        assert rows["seqboat"].speed_ratio == pytest.approx(8.0, rel=0.05)
    text = table.render("terminal")
    assert "Allocator" in text
    assert text.count("MALLOC_PERTURB_=0") >= 2


def test_two_published_records_of_two_allocators_are_kept_apart():
    paths = [
        ROOT / "results" / "allocators" / f"{name}.jsonl" for name in ("kept-when-freed", "glibc-defaults")
    ]
    table = build_table(*map(read, paths))
    assert [row.speed_ratio for row in table.rows if row.model == "transformer"] == [1.0, 1.0]
    assert not any("is newer" in note for note in table.notes)


def test_functions_of_one_name_in_two_modules_are_two_models():
    run = results(("transformer", "a.model:build", "b.model:build"))
    rows = build_table(run).rows
    assert [row.title for row in rows][1:] == ["a.model", "b.model"]
    assert len({point["model"] for point in chart_data.ratios(rows)}) == 3


def test_the_same_case_of_two_files_has_both_names_where_every_run_is_drawn():
    runs = [results(MODELS), results(MODELS, path="later.jsonl", created="2026-02-02T00:00:00+00:00")]
    names = {point["model"] for point in chart_data.rounds(runs)}
    titles, paths = ("Transformer", "SeqBoat"), ("run.jsonl", "later.jsonl")
    assert names == {f"{title}, {path}" for title in titles for path in paths}


def test_notes_tell_rows_of_several_batches_apart():
    """Three rows of one model at one length had one name in the notes."""
    run = results(["transformer", "s4"], batch=BatchSizes(cpu=(1, 4)), failed={"s4": "oom"})
    unsteady = {name: msgspec.structs.replace(solo, stationary=False) for name, solo in run.solos.items()}
    notes = build_table(msgspec.structs.replace(run, solos=unsteady)).notes
    assert any("S4 (batch 1) at 4096, S4 (batch 4) at 4096: out of memory" in note for note in notes)
    assert any("stationary: Transformer (batch 1) at 4096" in note for note in notes)
