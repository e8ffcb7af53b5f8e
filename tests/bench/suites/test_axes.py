"""Batch, precision and fill may be several; ratios are formed within a cell only."""

import msgspec
import pytest
import yaml

from bench.errors import UsageError
from bench.measure.procedure import Procedure
from bench.measure.request import as_command, load_suite, request_for
from bench.suites import reading as suites
from bench.suites.suite import BatchSizes
from bench.views.charts.data import growth
from bench.views.tables.table import build_table

from .. import made_up

GOOD = {
    "description": "a test",
    "workload": "text",
    "lengths": [64, 128],
    "implementations": ["transformer", "s4"],
    "baseline": "transformer",
}


def write(folder, **changes):
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes))
    return str(path)


def settings(suite):
    cases = suite.cases("cpu")
    return [(c.length, c.precision, c.fill, c.batch) for c in cases if c.implementation == "s4"]


def test_every_value_of_every_axis_is_a_cell(tmp_path):
    suite = suites.load(write(tmp_path, batch=[1, 4], precision=["fp32", "bf16"], fill=["full", "real"]))
    assert len(settings(suite)) == len(set(settings(suite))) == 2 * 2 * 2 * 2
    assert settings(suite)[:3] == [
        (64, "fp32", "full", 1),
        (64, "fp32", "full", 4),
        (64, "fp32", "real", 1),
    ]
    assert len({case.id for case in suite.cases("cpu")}) == 32
    assert suite.axes("cpu") == ["batch", "precision", "fill"]


def test_batches_may_be_several_on_one_device_only(tmp_path):
    suite = suites.load(write(tmp_path, batch={"cuda": [8, 16]}))
    assert (suite.axes("cpu"), suite.axes("cuda")) == ([], ["batch"])
    assert suites.load(write(tmp_path, batch=3)).batch == BatchSizes(cpu=3, cuda=3)


def test_at_constant_tokens_the_batch_follows_the_length(tmp_path):
    suite = suites.load(write(tmp_path, tokens=512))
    assert settings(suite) == [(64, "fp32", "full", 8), (128, "fp32", "full", 4)]


def test_a_file_that_extends_another_replaces_its_batch_by_tokens_and_the_other_way(tmp_path):
    write(tmp_path, batch=[1, 2])
    (tmp_path / "tokens.yaml").write_text("extends: mine.yaml\ntokens: 512\n")
    (tmp_path / "batch.yaml").write_text("extends: tokens.yaml\nbatch: 2\n")
    assert {batch for *_, batch in settings(suites.load(str(tmp_path / "tokens.yaml")))} == {8, 4}
    assert {batch for *_, batch in settings(suites.load(str(tmp_path / "batch.yaml")))} == {2}


def test_options_replace_the_file_and_one_value_stays_one(tmp_path):
    path = write(tmp_path, tokens=512)
    asked = {"batch": [1, 2], "precision": ["bf16"], "fill": ["full", "real"]}
    suite = load_suite(request_for(path, **asked))
    assert (suite.tokens, suite.precision, suite.fill) == (None, "bf16", ("full", "real"))
    assert {batch for *_, batch in settings(suite)} == {1, 2}
    assert as_command(path, asked)[4:] == ["--batch", "1,2", "--precision", "bf16", "--fill", "full,real"]


def test_threads_are_a_cell_of_their_own_where_they_are_several(tmp_path):
    suite = suites.load(write(tmp_path, threads=[1, 2], lengths=[64]))
    cases = [case for case in suite.cases("cpu") if case.implementation == "s4"]
    assert [case.threads for case in cases] == [1, 2]
    assert [case.id.rpartition("/")[2] for case in cases] == ["1-threads", "2-threads"]
    assert (suite.axes("cpu"), suite.most_threads) == (["threads"], 2)
    plan = Procedure(suite, msgspec.structs.replace(made_up.CPU, threads=2))
    assert [plan.prepare(case).threads for case in cases] == [1, 2]
    table = build_table(made_up.results(["transformer", "s4"], threads=(1, 2)))
    assert [column.header for column in table.columns if not column.on_demand][:2] == ["Model", "Threads"]
    assert [row.threads for row in table.rows if row.model == "s4"] == [1, 2]
    assert "1, 2 threads" in "".join(table.footer)


def test_one_number_of_threads_is_the_machines(tmp_path):
    suite = load_suite(request_for(write(tmp_path), threads=1))
    assert {case.threads for case in suite.cases("cpu")} == {None}
    assert (suite.axes("cpu"), suite.most_threads) == ([], 1)
    with pytest.raises(UsageError, match="--threads 1,0: must be at least 1"):
        load_suite(request_for(write(tmp_path), threads=[1, 0]))


def test_modes_are_rows_of_one_cell_against_the_baseline_in_the_first():
    run = made_up.results(["transformer", "s4"], modes=("checkpoint", "eager"), lengths=[512])
    cases = list(run.solos.values())
    assert len({solo.case.cell for solo in cases}) == 1
    assert [solo.case.mode for solo in cases] == ["checkpoint", "eager"] * 2
    slower = {name: 3.0 for name in run.solos if name == "transformer/text-512x1-full/train-fp32"}
    samples = [
        msgspec.structs.replace(sample, seconds=sample.seconds * slower.get(sample.case_id, 1.0))
        for sample in run.samples
    ]
    table = build_table(msgspec.structs.replace(run, samples=samples))
    assert [column.header for column in table.columns if not column.on_demand][:2] == ["Model", "Mode"]
    found = {(row.model, row.mode): row.speed_ratio for row in table.rows}
    assert found["transformer", "checkpoint"] == 1.0
    assert found["transformer", "eager"] == pytest.approx(1 / 3)
    assert run.header.suite.choices("cpu") == ["mode"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch": 1, "tokens": 64}, "`tokens`: takes the place of `batch`"),
        ({"tokens": 64}, "`tokens`: 64 is not a multiple of the length 128"),
        ({"precision": ["fp32", "fp8"]}, "choose fp32, tf32, bf16, bf16-pure, fp16 or fp64"),
        ({"precision": []}, "`precision`: give at least one"),
        ({"batch": [2, 2]}, "`batch`: 2 is given twice"),
        ({"batch": [0]}, ">= 1"),
        ({"fill": "empty"}, "choose full or real"),
        ({"threads": 0}, ">= 1"),
        ({"modes": ["eager", "eager"]}, "`modes`: eager is given twice"),
        ({"modes": "jit"}, "choose eager, compile, checkpoint or graph"),
        ({"hyperparameters": "big"}, "`hyperparameters`: choose published, matched, small or params:N"),
        ({"hyperparameters": "params:0"}, "write the number of parameters as params:10M"),
    ],
)
def test_a_bad_axis_of_a_file_is_one_line(tmp_path, changes, words):
    path = write(tmp_path, **changes)
    with pytest.raises(UsageError) as caught:
        suites.load(path)
    assert str(caught.value).startswith(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": [1], "tokens": 64}, "--tokens and --batch: give one of them"),
        ({"tokens": 100}, "--tokens: 100 is not a multiple of the length 256"),
        ({"batch": [1, 0]}, "--batch 1,0: must be at least 1"),
        ({"precision": ["fp32", "fp8"]}, "--precision fp32,fp8: choose fp32, tf32"),
        ({"fill": ["full", "full"]}, "--fill: full is given twice"),
    ],
)
def test_a_bad_option_is_one_line(changes, message):
    with pytest.raises(UsageError) as caught:
        suites.load("ci", changes)
    assert str(caught.value).startswith(message)


def test_ratios_are_within_a_cell_and_what_differs_is_a_column():
    run = made_up.results(["transformer", "s4"], batch=BatchSizes(cpu=(1, 2)), precision=("fp32", "bf16"))
    # A ratio over cells would show these factors.
    factors = {("x2" in case_id, "bf16" in case_id): 1 for case_id in run.solos}
    factors |= {(True, False): 10, (False, True): 3, (True, True): 7}
    samples = [
        msgspec.structs.replace(
            sample, seconds=sample.seconds * factors["x2" in sample.case_id, "bf16" in sample.case_id]
        )
        for sample in run.samples
    ]
    table = build_table(msgspec.structs.replace(run, samples=samples))
    assert {round(row.speed_ratio, 1) for row in table.rows if row.model == "s4"} == {4.0}
    assert {row.speed_ratio for row in table.rows if row.model == "transformer"} == {1.0}
    assert [column.header for column in table.columns if not column.on_demand][1:3] == ["Batch", "Precision"]
    places = [(row.batch, row.precision) for row in table.rows]
    assert places == [place for place in dict.fromkeys(places) for _ in range(2)]  # each cell's rows together


def test_lines_over_lengths_hold_together_at_constant_tokens():
    run = made_up.results(["transformer", "s4"], lengths=[512, 1024], tokens=4096)
    assert {point["model"] for point in growth(build_table(run).rows)} == {"Transformer", "S4"}
