"""A bisection's folder: it answers the question that it was asked, and no other."""

from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest

from bench.errors import UsageError
from bench.gate.search import NOT_TIMED, Found
from bench.gate.verdicts import Pair
from bench.gate.workbench import Workbench, kept_pairing

from ..made_up import CPU, results

RUN = results(["transformer"], [256])
(SOLO,) = RUN.solos.values()


def workbench(folder: Path, margin: float = 0.2, figure: str = "step", environment=CPU) -> Workbench:
    repository = Mock(root=Path("/mine"))
    return Workbench(
        folder, repository, None, RUN.header.suite, environment, SOLO.case, figure, margin, "good"
    )


def test_another_margin_is_another_question(tmp_path, monkeypatch):
    first = workbench(tmp_path)
    monkeypatch.setattr(
        first, "_measured", lambda commit, threshold: Found(commit=commit, standing="good", ratio=1.1)
    )
    assert first.look("bad", 1.2).standing == "good"
    assert workbench(tmp_path).found["bad"].ratio == 1.1
    with pytest.raises(UsageError, match="holds another bisection"):
        workbench(tmp_path, margin=0.01)


def test_a_commit_that_there_was_no_time_for_is_looked_at_again(tmp_path, monkeypatch):
    bench = workbench(tmp_path)
    monkeypatch.setattr(
        bench,
        "_measured",
        lambda commit, threshold: Found(commit=commit, standing="skipped", reason=NOT_TIMED),
    )
    assert bench.look("bad", 1.2).reason == NOT_TIMED
    assert "bad" not in bench.found


def test_a_duet_is_continued_as_a_duet(tmp_path):
    duet = msgspec.structs.replace(CPU, pairing="duet", variables={"OMP_WAIT_POLICY": "active"})
    workbench(tmp_path, environment=duet)._keep(Found(commit="bad", standing="bad"))
    assert kept_pairing(tmp_path) == "duet"


@pytest.mark.parametrize("figure", ["step", "flops"])
def test_unknown_costs_stop_only_a_search_by_costs(tmp_path, figure):
    """A compiled model has no exact costs; its time can be searched by all the same."""
    uncounted = msgspec.structs.replace(SOLO, exact=None, reason="it is compiled")
    gate = Mock()
    gate.found.samples, gate.found.lost = RUN.samples, {}
    bench = workbench(tmp_path, figure=figure)
    if figure == "flops":
        with pytest.raises(UsageError, match="the good end has no flops: it is compiled"):
            bench._judged(gate, Pair(uncounted, uncounted), "bad", 1.2)
    else:
        other = msgspec.structs.replace(uncounted, case=msgspec.structs.replace(SOLO.case, revision="head"))
        assert bench._judged(gate, Pair(uncounted, other), "bad", 1.2).reason == NOT_TIMED
