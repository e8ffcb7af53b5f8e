"""Which batch fits a room, whatever the way in which a step grows with it."""

import contextlib
from unittest.mock import Mock

import msgspec
import pytest

from bench.errors import UsageError
from bench.measure import batch as module
from bench.measure.batch import largest_batch
from bench.measure.procedure import Procedure
from bench.suites import reading as suites
from bench.suites.suite import BatchSizes

from ..made_up import CPU

CASE = suites.load("ci", {"batch": 64}).cases("cpu")[0]


@pytest.mark.parametrize(
    "grows", [lambda b: 10 + 3 * b, lambda b: 10 + b * b, lambda b: 10 + 40 * (b // 16 + 1), lambda b: 100]
)
@pytest.mark.parametrize("room", [5, 13, 60, 100, 150, 10_000])
def test_the_largest_batch_that_fits(grows, room):
    asked = []

    def needs(case):
        asked.append(case.batch)
        return grows(case.batch)

    fitting = [batch for batch in range(1, 65) if grows(batch) <= room]
    assert largest_batch(CASE, room, needs) == max(fitting, default=0)
    assert len(asked) <= 13


def test_a_line_is_known_by_four_figures():
    asked = []
    assert largest_batch(CASE, 100, lambda case: asked.append(case.batch) or 10 + 3 * case.batch) == 30
    assert len(asked) == 4


def test_what_cant_be_predicted_is_left_alone():
    assert largest_batch(CASE, 100, lambda case: None) is None


def test_of_several_batches_the_largest_is_the_one_to_reach(monkeypatch):
    asked = suites.load("ci", {"batch": "auto"})
    suite = msgspec.structs.replace(asked, batch=BatchSizes(cpu=(1, 4, 16)))
    monkeypatch.setattr(module, "ForkServer", lambda *words: contextlib.nullcontext())
    needs = Mock(side_effect=lambda case: Mock(bytes=case.batch))
    monkeypatch.setattr(module, "predicting", lambda procedure, server: needs)
    fitted, (words,) = module.fit_batch(Procedure(suite, CPU))
    assert fitted.batch.cpu == 16
    assert words.startswith("batch auto: 16, the suite's own")


def test_auto_is_a_batch_of_options_and_of_suites(tmp_path):
    asked = suites.load("ci", {"batch": "auto"})
    assert (asked.fit_batch, asked.batch) == (True, suites.load("ci").batch)
    path = tmp_path / "mine.yaml"
    path.write_text("{extends: ci, batch: auto}")
    assert suites.load(str(path)).fit_batch
    assert not suites.load(str(path), {"batch": [4]}).fit_batch
    assert not suites.load(str(path), {"tokens": 1024}).fit_batch
    with pytest.raises(UsageError, match="--batch 4,auto"):
        suites.load("ci", {"batch": [4, "auto"]})


def test_auto_reaches_for_the_batch_of_the_suite_that_is_extended(tmp_path):
    large, auto, back = (tmp_path / f"{name}.yaml" for name in ("large", "auto", "back"))
    large.write_text("{extends: ci, batch: {cpu: 16, cuda: 32}}")
    auto.write_text("{extends: large.yaml, batch: auto}")
    back.write_text("{extends: auto.yaml, batch: 2, tokens: null}")
    assert suites.load(str(auto)).batch == BatchSizes(cpu=16, cuda=32)
    assert suites.load(str(auto)).fit_batch
    assert not suites.load(str(back)).fit_batch


@pytest.mark.parametrize(("keys", "options"), [("batch: auto", {}), ("seed: 0", {"batch": "auto"})])
def test_auto_is_refused_where_tokens_set_the_batch(tmp_path, keys, options):
    tokens, auto = tmp_path / "tokens.yaml", tmp_path / "auto.yaml"
    tokens.write_text("{extends: ci, tokens: 1024}")
    auto.write_text(f"{{extends: tokens.yaml, {keys}}}")
    with pytest.raises(UsageError, match=r"batch.*: auto makes a batch smaller.*`tokens: 1024`"):
        suites.load(str(auto), options)
