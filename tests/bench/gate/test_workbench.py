"""A bisection's folder: it answers the question that it was asked, and no other."""

from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest

from bench.errors import UsageError
from bench.gate.search import NOT_TIMED, Found
from bench.gate.verdicts import Pair
from bench.gate.workbench import Workbench, alone_in, kept_pairing

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


def skipped(reason: str, **fields) -> Found:
    return Found(commit="bad", standing="skipped", reason=reason, **fields)


@pytest.mark.parametrize(
    ("kept", "is_measured"),
    [
        (skipped("does not build"), False),
        (skipped(NOT_TIMED), True),
        (skipped("unclear", ratio=1.0, blocks=7, threshold=1.2), True),
        (skipped("unclear", ratio=1.0, blocks=15, threshold=1.2), False),
        (Found(commit="bad", standing="bad", ratio=1.3, blocks=5, threshold=1.2), False),
        (Found(commit="bad", standing="bad", ratio=1.3, blocks=5, threshold=1.1), True),
    ],
)
def test_measured_anew_is_what_lacked_time_or_had_another_threshold(tmp_path, monkeypatch, kept, is_measured):
    """The threshold is half-way to the bad end, so another one has another."""
    workbench(tmp_path)._keep(kept)
    bench, new = workbench(tmp_path), Found(commit="bad", standing="good", ratio=1.0, threshold=1.2)
    monkeypatch.setattr(bench, "_measured", lambda commit, threshold: new)
    assert bench.look("bad", 1.2) == (new if is_measured else kept)
    assert workbench(tmp_path).found["bad"] == bench.found["bad"]


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


def test_one_search_at_a_time_works_in_a_folder(tmp_path):
    folder = tmp_path / "search"
    taken = pytest.raises(UsageError, match="search: another search is at work here")
    with alone_in(folder), taken, alone_in(folder):
        pytest.fail("two at once")
    with alone_in(folder):
        pass


@pytest.mark.parametrize("damage", [b"\xff", b'","x":' + b"[" * 100_000], ids=["byte", "depth"])
def test_damaged_findings_are_named(tmp_path, damage):
    workbench(tmp_path)._keep(Found(commit="bad", standing="bad", reason="slower"))
    path = tmp_path / "found.json"
    path.write_bytes(path.read_bytes().replace(b"slower", damage, 1))
    with pytest.raises(UsageError, match=r"found\.json: cannot be read"):
        workbench(tmp_path)
    assert kept_pairing(tmp_path) is None
