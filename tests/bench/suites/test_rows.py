"""A suite may hold several settings of one model, each a row."""

import pytest
import yaml

from bench.errors import UsageError
from bench.suites import reading as suites
from bench.views.tables.table import build_table

from .. import made_up

ROW = {"name": "seqboat-w64", "use": "seqboat", "set": {"window": 64}}
W64 = "seqboat-w64=seqboat(window=64)"


def write(folder, *implementations, **changes):
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "ci", "implementations": [*implementations], **changes}))
    return str(path)


def test_a_row_is_a_name_with_a_setting_and_may_be_told_by_its_own(tmp_path):
    path = write(
        tmp_path,
        "transformer",
        "seqboat",
        ROW,
        baseline="seqboat-w64",
        limits={"seqboat-w64": {"margin": "9%"}},
        ignore=[{"seqboat-w64": "goes away"}],
    )
    suite = suites.load(path)
    assert suite.implementations == ("transformer", "seqboat", W64)
    assert suite.baseline == W64
    assert list(suite.limits) == [W64]
    assert suite.ignored == {W64: "goes away"}
    assert {case.id.partition("/")[0] for case in suite.cases("cpu")} == set(suite.implementations)


def test_options_name_rows_and_settings_too(tmp_path):
    path = write(tmp_path, "transformer", ROW)
    chosen = suites.load(
        path, {"implementations": ["seqboat-w64", "s4( dim = 32 )"], "baseline": "seqboat-w64"}
    )
    assert chosen.implementations == (W64, "s4(dim=32)")
    assert chosen.baseline == W64


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([ROW, ROW], "is given twice"),
        ([ROW, {**ROW, "use": "mega"}], "has that name, too"),
        ([{**ROW, "name": "MEGA"}, "mega"], "MEGA is the name of an implementation"),
        ([{**ROW, "name": "my.model"}, "my.model:build"], "my.model is what my.model:build is called"),
        ([{**ROW, "name": "mega"}], "mega is the name of an implementation"),
        ([{**ROW, "set": {"windwo": 64}}], "unknown hyper-parameter 'windwo'"),
        ([{**ROW, "set": {"window": 0}}], "seqboat: window can't be 0: give a whole number from 1 or null"),
        ([{**ROW, "set": {"window": float("inf")}}], "seqboat-w64: window cannot be inf"),
        ([{**ROW, "use": "m:build", "set": {"x": [1, float("nan")]}}], "seqboat-w64: x cannot be [1, nan]"),
        ([{**ROW, "use": "seqboot"}], "did you mean 'seqboat'"),
        ([{**ROW, "name": "a b"}], "$.name"),
        ([{"name": "x"}], "missing required field `use`"),
        ([{**ROW, "sat": {}}], "unknown field `sat`"),
    ],
)
def test_a_bad_row_is_one_line(tmp_path, rows, words):
    path = write(tmp_path, "transformer", *rows)
    with pytest.raises(UsageError) as caught:
        suites.load(path)
    assert str(caught.value).startswith(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_has_the_rows_own_titles_and_takes_them_as_baseline():
    run = made_up.results(["transformer", "seqboat", W64, "seqboat(window=32)"])
    assert [row.title for row in build_table(run).rows][1:] == [
        "SeqBoat",
        "seqboat-w64",
        "SeqBoat (window=32)",
    ]
    table = build_table(run, baseline="seqboat-w64")
    assert table.baseline == "seqboat-w64"
    assert [row.speed_ratio for row in table.rows if row.model == W64] == [1.0]


def test_rates_and_checkpoints_name_rows_too(tmp_path):
    rows = ("transformer", ROW)
    path = write(tmp_path, *rows, baseline="transformer", training={"learning_rate": {"seqboat-w64": 0.1}})
    assert suites.load(path).training.learning_rate == {W64: 0.1}
    wrong = write(tmp_path, *rows, baseline="transformer", training={"learning_rate": {"seqbaot": 0.1}})
    with pytest.raises(UsageError, match=r"training.*did you mean"):
        suites.load(wrong)
    endless = {"learning_rate": {"seqboat-w64": float("inf")}}
    with pytest.raises(UsageError, match=r"`training`: .*: a learning rate of inf is not a finite number"):
        suites.load(write(tmp_path, *rows, baseline="transformer", training=endless))
