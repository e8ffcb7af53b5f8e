"""YAML files: plain words of YAML 1.2, and no key twice."""

import pytest

from implementations import registry
from implementations.errors import YamlError
from implementations.yaml_files import read_yaml


@pytest.mark.parametrize("ours", [False, True])
def test_numbers_are_those_of_yaml_1_2(tmp_path, ours):
    path = tmp_path / "numbers.yaml"
    path.write_text("[0100, 1:30, 1e-3, 1_0, -2, 0x10, 0o10, .5, .inf, -.inf, 1.0, 3%, 2m]")
    found = read_yaml(path, ours=ours)
    assert found == [100, "1:30", 0.001, "1_0", -2, 16, 8, 0.5, float("inf"), float("-inf"), 1.0, "3%", "2m"]
    assert [type(number) for number in found[:4]] == [int, str, float, str]


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "y", "1_0.5", "0b11", "2026-11-30"])
def test_a_word_that_only_yaml_1_1_gives_a_meaning_stays_text(tmp_path, word):
    path = tmp_path / "word.yaml"
    path.write_text(f"[{word}, true, False, null, ~, .INF]")
    for ours in (False, True):
        assert read_yaml(path, ours=ours) == [word, True, False, None, None, float("inf")]


@pytest.mark.parametrize("text", ["lengths: [1]\nlengths: [2]\n", "timing: {budget: 1m, budget: 2m}\n"])
def test_a_key_twice_is_refused_with_its_line(tmp_path, text):
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    with pytest.raises(YamlError, match=r"twice.yaml: not valid YAML: line \d, .*a second time"):
        read_yaml(path)


def test_anchors_and_merged_mappings_are_read(tmp_path):
    path = tmp_path / "merged.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: *a\n")
    assert read_yaml(path)["b"] == {"x": 3, "y": 2}


def test_libyaml_reads_our_cards_as_the_parser_in_python_does():
    cards = sorted(registry.CARDS.glob("*.yaml"))
    assert cards
    for card in cards:
        assert repr(read_yaml(card, ours=True)) == repr(read_yaml(card)), card
