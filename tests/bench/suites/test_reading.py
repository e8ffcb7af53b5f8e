"""Suites are read strictly: one line with file, place and reason."""

from pathlib import Path

import pytest
import yaml

from bench.errors import UsageError
from bench.suites import reading as suites
from bench.suites.files import suite_files
from implementations import registry

NAMES = [file.path.stem for file in suite_files() if not file.is_collection]

GOOD = {
    "description": "a test",
    "workload": "text",
    "lengths": [64],
    "implementations": ["transformer", "seqboat"],
    "baseline": "transformer",
}


def write(tmp_path: Path, **changes) -> str:
    path = tmp_path / "mine.yaml"
    content = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_every_suite_of_the_package_is_valid():
    assert {"lra-text-4k", "lra-text-1k", "sweep-16k", "ci"} <= set(NAMES)
    for name in NAMES:
        assert suites.load(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_comparison_with_a_fused_model_has_all_of_them(name):
    suite = suites.load(name)
    if name == "ci" or suite.phase == "decode":  # a gate compares revisions; one token has no fused form
        return
    fused = {item.name for item in registry.catalogue().values() if item.name.endswith("-fused")}
    assert len(fused) == 4
    assert {one for one in fused if one.removesuffix("-fused") in suite.implementations} <= set(
        suite.implementations
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lenghts": [64]}, ["unknown field `lenghts`", "`lengths`"]),
        ({"timing": {"bugdet": "5m"}}, ["unknown field `bugdet`", "$.timing", "`budget`"]),
        ({"lengths": ["long"]}, ["$.lengths[0]", "int"]),
        ({"lengths": [0]}, ["$.lengths[0]", ">= 1"]),
        ({"lengths": []}, ["`lengths`: give at least one"]),
        ({"lengths": [64, 64]}, ["64 is given twice"]),
        ({"lengths": [1 << 30]}, ["at most 1048576"]),
        ({"workload": "txet"}, ["`workload`", "'text'"]),
        ({"implementations": ["transformer", "seqboot"]}, ["seqboot", "'seqboat'"]),
        ({"implementations": ["seqboat"]}, ["`baseline`", "not among"]),
        ({"activation": [1.5]}, ["$.activation[0]", "<= 1"]),
        ({"precision": "fp8"}, ["$.precision", "fp8", "choose fp32, tf32, bf16, bf16-pure, fp16 or fp64"]),
        ({"timing": {"budget": "soon"}}, ["`timing`", "'soon' is not a duration"]),
        ({"timing": {"min_run": "briefly"}}, ["`timing`", "'briefly' is not a duration"]),
        ({"timing": {"target": "300%"}}, ["`timing`", "between 0% and 100%"]),
        ({"timing": {"min_blocks": 5, "max_blocks": 4}}, ["max_blocks", "min_blocks (5)"]),
        ({"limits": {"mine.conv:biuld": {"margin": "5%"}}}, ["`limits`", "mine.conv:biuld is not among its"]),
        ({"ignore": [{"mine.conv:biuld": "new"}]}, ["`ignore`", "mine.conv:biuld is not among its"]),
        ({"limits": {"transformer": "5%"}}, ["$.limits", "write `model: {margin: 2%, tolerance: 5%}`"]),
        ({"ignore": ["transformer"]}, ["$.ignore", "write `- model: reason`"]),
        ({"workload": ...}, ["missing required field `workload`"]),
    ],
)
def test_a_bad_suite_is_one_clear_line(tmp_path, changes, words):
    path = write(tmp_path, **changes)
    with pytest.raises(UsageError) as caught:
        suites.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(path)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp8"}, "--precision fp8: choose fp32, tf32, bf16, bf16-pure, fp16 or fp64"),
        ({"lengths": [0]}, "--length 0: must be at least 1"),
        ({"lengths": [1 << 30]}, "--length: text has at most 1048576 time steps, not 1073741824"),
        (
            {"implementations": ["seqboot"]},
            "--impl: unknown implementation 'seqboot'; did you mean 'seqboat'?",
        ),
        (
            {"implementations": ["transformer(pooling=max)"]},
            "--impl: transformer: unknown pooling 'max': choose mean, first or last",
        ),
        ({"activation": [1.5]}, "--activation 1.5: must be at most 1"),
        ({"baseline": "s4"}, "--baseline: 's4' is not among the implementations"),
    ],
)
def test_a_bad_option_is_named_and_not_the_file(changes, message):
    with pytest.raises(UsageError) as caught:
        suites.load("ci", {"implementations": ["seqboat"], **changes})
    assert str(caught.value).startswith(message)


def test_a_bad_budget_is_named():
    with pytest.raises(UsageError, match=r"^--budget: 'soon' is not a duration"):
        suites.load("ci", budget="soon")


def test_a_file_is_to_blame_for_what_no_option_changed(tmp_path):
    path = write(tmp_path, workload="txet")
    with pytest.raises(UsageError, match=f"^{path}: `workload`"):
        suites.load(path, {"lengths": [32]})


def test_own_models_are_timed_beside_the_baseline():
    assert suites.load("ci", {"implementations": ["s4"]}).implementations == ("transformer", "s4")


def test_broken_yaml_names_its_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("workload: text\nlengths: [64\n")
    with pytest.raises(UsageError, match="line 3, column 1"):
        suites.load(str(path))


@pytest.mark.parametrize("content", ["", "- a list", "just words"])
def test_a_file_that_is_no_mapping(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UsageError, match="must be a mapping"):
        suites.load(str(path))


def test_unknown_and_missing_suites(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'lra-text-4k'"):
        suites.load("lra-txt-4k")
    with pytest.raises(UsageError, match="no such suite file"):
        suites.load(str(tmp_path / "none.yaml"))


def test_activation_rates_make_a_row_each_for_sparse_models_only(tmp_path):
    suite = suites.load(write(tmp_path, activation=[0.1, 0.3]))
    ids = [case.id for case in suite.cases("cpu")]
    assert ids == [
        "transformer/text-64x1-full/train-fp32",
        "seqboat/text-64x1-full/train-fp32/activation-0.1",
        "seqboat/text-64x1-full/train-fp32/activation-0.3",
    ]


def test_batch_follows_the_device(tmp_path):
    suite = suites.load(write(tmp_path, batch={"cpu": 2, "cuda": 8}))
    assert {case.batch for case in suite.cases("cpu")} == {2}
    assert {case.batch for case in suite.cases("cuda")} == {8}


def test_case_ids_are_distinct_over_the_grid(tmp_path):
    suite = suites.load(write(tmp_path, lengths=[64, 128], activation=[0.1, 0.5]))
    ids = [case.id for case in suite.cases("cpu")]
    assert len(ids) == len(set(ids)) == 6
