"""Turns or a duet: where each side has cores of its own, and what is said where it has not."""

import msgspec
import pytest

from bench.errors import UsageError
from bench.measure import pairing
from bench.measure.pairing import Cores, pair
from bench.system import processors
from bench.views.comparison import compare, differences

from ..made_up import CPU, results

CUDA = msgspec.structs.replace(CPU, device="cuda:0")


@pytest.fixture
def idle(monkeypatch):
    monkeypatch.setattr(pairing, "busy_cores", lambda granted: 0.0)


def cores(count: int) -> Cores:
    return Cores(tuple(range(0, 2 * count, 2)))


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("count", "threads", "each", "sides"),
    [(2, None, 1, "0 and 2"), (5, None, 2, "0, 2 and 4, 6"), (8, 1, 1, "0 and 2")],
)
def test_each_side_has_half_of_the_cores(count, threads, each, sides):
    found = pair(CPU, "auto", threads, cores(count))
    assert (found.environment.pairing, found.environment.threads) == ("duet", each)
    assert found.words.endswith(f"{each} thread{'s' * (each > 1)} each, on processors {sides}")
    assert found.environment.machine != CPU.machine
    assert "side by side" in found.environment.words


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("environment", "count", "threads", "why"),
    [
        (CPU, 1, None, "one core"),
        (CPU, 4, 3, "--threads 3 on each side need 6 cores, and there are 4"),
        (CUDA, 8, None, "one GPU"),
    ],
)
def test_without_cores_of_their_own_they_take_turns_and_a_duet_is_refused(environment, count, threads, why):
    found = pair(environment, "auto", threads, cores(count))
    assert found.environment == environment
    assert why in found.words
    with pytest.raises(UsageError, match=r"--pairing duet: .*; --pairing turns does without"):
        pair(environment, "duet", threads, cores(count))


def test_other_work_means_turns_unless_a_duet_is_asked_for(monkeypatch):
    monkeypatch.setattr(pairing, "busy_cores", lambda granted: 1.2)
    found = pair(CPU, "auto", None, cores(2))
    assert found.environment.pairing == "turns"
    assert found.words == "timed in turns: other work keeps 1.2 of 2 cores busy"
    assert pair(CPU, "duet", None, cores(2)).environment.pairing == "duet"


def test_turns_are_what_was_asked_for():
    assert pair(CPU, "turns", None).environment == CPU


def test_an_unknown_pairing_is_one_line():
    with pytest.raises(UsageError, match="--pairing trio: choose auto, turns, duet"):
        pair(CPU, "trio", None)


def test_hyperthreads_and_a_container_s_share_count(monkeypatch):
    monkeypatch.setattr(processors, "allowed", lambda: (0, 1, 2, 3, 4, 5))
    monkeypatch.setattr(processors, "cores", lambda allowed: [(0, 3), (1, 4), (2, 5)])
    monkeypatch.setattr(pairing.limits, "cpu_quota", lambda: None)
    assert Cores.of_this_process().halves(1) == ((0,), (1,))
    assert Cores.of_this_process().half == 1
    monkeypatch.setattr(pairing.limits, "cpu_quota", lambda: 1.5)
    assert Cores.of_this_process().half == 0


def test_runs_of_two_pairings_are_never_compared():
    duet = results(environment=msgspec.structs.replace(CPU, pairing="duet"))
    assert list(differences(results(), duet)) == ["other pairing (turns and duet)"]
    with pytest.raises(UsageError, match=r"other pairing \(turns and duet\)"):
        compare(results(), duet)


def test_work_on_the_other_hyperthread_of_a_core_keeps_it_busy(monkeypatch):
    monkeypatch.setattr(processors, "cores", lambda allowed: [(0, 2), (1, 3), (4, 5)])
    monkeypatch.setattr(pairing.psutil, "cpu_percent", lambda **_: [0.0, 10.0, 90.0, 0.0, 100.0, 100.0])
    assert pairing.busy_cores((0, 1)) == pytest.approx(1.0)
