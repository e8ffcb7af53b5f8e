"""Suites are read strictly: one line with file, place and reason."""

from pathlib import Path

import pytest
import yaml

from bench.errors import UsageError
from bench.suites import suite as suites
from implementations import registry

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
    names = suites.suite_names()
    assert {"lra-text-4k", "lra-text-1k", "sweep-16k", "ci"} <= set(names)
    for name in names:
        assert suites.load(name).name == name


@pytest.mark.parametrize("name", suites.suite_names())
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
        ({"lengths": []}, ["`lengths` is empty"]),
        ({"lengths": [64, 64]}, ["64 stands there twice"]),
        ({"lengths": [1 << 30]}, ["at most 1048576"]),
        ({"workload": "txet"}, ["`workload`", "'text'"]),
        ({"implementations": ["transformer", "seqboot"]}, ["seqboot", "'seqboat'"]),
        ({"implementations": ["seqboat"]}, ["`baseline`", "not among"]),
        ({"activation": [1.5]}, ["$.activation[0]", "<= 1"]),
        ({"precision": "fp8"}, ["$.precision", "fp8"]),
        ({"timing": {"budget": "soon"}}, ["`timing`", "'soon' is no duration"]),
        ({"timing": {"min_run": "briefly"}}, ["`timing`", "'briefly' is no duration"]),
        ({"timing": {"target": "300%"}}, ["`timing`", "between 0% and 100%"]),
        ({"timing": {"min_blocks": 5, "max_blocks": 4}}, ["max_blocks", "min_blocks (5)"]),
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
