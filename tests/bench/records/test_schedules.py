"""Published schedules: what the file says in other words, and what is wrong in one is one line."""

from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.records.schedules import Schedule, read_schedules

GOOD = """\
sequences: {text: 100}
systems: {a: {source: here, tasks: {TASK: {batch: 30, weight_decay: 0.1, EXTENT}}}}
"""


def read(folder: Path, task: str, extent: str) -> Schedule:
    file = folder / "schedules.yaml"
    file.write_text(GOOD.replace("TASK", task).replace("EXTENT", extent))
    return read_schedules(file)["a", task]


def test_epochs_become_steps_where_the_data_is_known(tmp_path):
    known = read(tmp_path, "text", "epochs: 5, warm_up_epochs: 1, learning_rate: 0.1")
    assert (known.steps, known.warm_up, known.warm_up_share, known.source) == (20, 4, 0.2, "here")
    unknown = read(tmp_path, "speech", "epochs: 5, warm_up_epochs: 1, learning_rate: 0.1")
    assert (unknown.steps, unknown.warm_up_share, unknown.extent) == (None, 0.2, "5 epochs")


def test_a_factor_of_one_over_the_root(tmp_path):
    schedule = read(tmp_path, "text", "steps: 1000, warm_up: 100, rsqrt_factor: 0.05")
    assert schedule.highest_rate == pytest.approx(0.005)
    assert schedule.warm_up_share == 0.1


@pytest.mark.parametrize(
    ("extent", "words"),
    [
        ("steps: 5", "a on text: give one of learning_rate and rsqrt_factor"),
        ("steps: 5, learning_rate: 0.1, rsqrt_factor: 0.1", "give one of"),
        ("steps: 5, learning_rate: 0.1, warmup: 3", "unknown field `warmup`"),
        ("steps: many, learning_rate: 0.1", "Expected `int"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path, extent, words):
    with pytest.raises(UsageError, match=words) as raised:
        read(tmp_path, "text", extent)
    assert "schedules.yaml: " in str(raised.value)
