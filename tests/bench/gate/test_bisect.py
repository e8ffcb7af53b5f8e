"""The search for a commit: by simulated clocks and costs, then by a real repository."""

import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bench.gate.bisect import search_for
from bench.gate.false_alarms import NoiseModel
from bench.gate.search import Found, Search, judged_by_cost, judged_by_time
from bench.records.solo import Exact

from ..in_process import bench
from ..repositories import commit, git
from .test_any_repository import model

COMMITS = [f"{number:02d}" for number in range(1, 16)]
"""After the good end: sixteen commits with it."""
NOISE = NoiseModel("simulated", process=0.01, run=0.01, burst=0.02)
COSTS = Exact(parameters=1, flops=1000, tensor_bytes=1000, operators=1)


class Clock:
    """Commits from the planted one on are slower; one does not build."""

    def __init__(self, planted: int, broken: int, slowdown: float, seed: int) -> None:
        self.planted, self.broken, self.slowdown = planted, broken, slowdown
        self.random = np.random.default_rng(seed)
        self.measured: list[str] = []

    def __call__(self, commit: str, threshold: float) -> Found:
        number = COMMITS.index(commit)
        if number == self.broken:
            return Found(commit=commit, standing="skipped", reason="does not build")
        self.measured.append(commit)
        values: list[float] = []
        shift = math.log1p(self.slowdown) if number >= self.planted else 0.0

        def more(count: int) -> list[float]:
            values.extend(value + shift for value in NOISE.blocks(count, self.random))
            return values

        return judged_by_time(commit, COSTS, more, threshold)


@pytest.mark.parametrize("seed", range(20))
def test_a_planted_slowdown_among_sixteen_commits_is_named_in_six(seed):
    random = np.random.default_rng(seed)
    planted = int(random.integers(len(COMMITS)))
    broken = int(random.choice([number for number in range(len(COMMITS) - 1) if number != planted]))
    clock = Clock(planted, broken, slowdown=0.10, seed=seed)
    told: list[Found] = []
    search = search_for(COMMITS, clock, 0.01, told.append)
    assert search.first_bad == COMMITS[planted]
    assert len(clock.measured) <= 6
    assert len(set(clock.measured)) == len(clock.measured)
    assert search.suspects == ([COMMITS[broken]] if broken == planted - 1 else [])
    found = search.found[search.first_bad]
    assert found.low < 1.10 < found.high or abs(found.ratio - 1.10) < 0.02
    assert [item.commit for item in told] == list(search.found)


def test_every_place_is_named_without_noise():
    most = 0
    for planted in range(len(COMMITS)):
        for broken in set(range(len(COMMITS) - 1)) - {planted}:
            look = exact_costs(planted, broken)
            search = search_for(COMMITS, look, 0.01, lambda found: None)
            assert search.first_bad == COMMITS[planted]
            most = max(most, sum(found.standing != "skipped" for found in search.found.values()))
    assert most <= 6


def exact_costs(planted: int, broken: int):
    def look(commit: str, threshold: float) -> Found:
        number = COMMITS.index(commit)
        if number == broken:
            return Found(commit=commit, standing="skipped", reason="does not build")
        return judged_by_cost(commit, COSTS, 1.3 if number >= planted else 1.0, threshold)

    return look


@pytest.mark.parametrize("seed", range(5))
def test_ends_that_are_the_same_are_not_told_apart(seed):
    clock = Clock(planted=99, broken=3, slowdown=0.1, seed=seed)
    search = search_for(COMMITS, clock, 0.01, lambda found: None)
    assert clock.measured == COMMITS[-1:]
    assert search.found[COMMITS[-1]].standing != "bad"


def test_what_can_not_be_told_gets_more_blocks_and_is_skipped():
    asked: list[int] = []

    def more(count: int) -> list[float]:
        asked.append(count)
        return [0.5, -0.5] * (sum(asked) // 2)

    found = judged_by_time("x", COSTS, more, 1.05)
    assert (found.standing, asked) == ("skipped", [5, 10])
    assert "can't be told from either end in 14 blocks" in found.reason
    assert judged_by_time("x", COSTS, lambda count: [0.2, 0.2, 0.2], 1.05).standing == "bad"
    assert judged_by_time("x", COSTS, lambda count: [0.0, 0.0, 0.0], 1.05).standing == "good"
    assert judged_by_time("x", COSTS, lambda count: [], 1.05).standing == "skipped"


def test_the_middle_is_next_and_its_neighbour_if_it_is_skipped():
    search = Search(COMMITS)
    assert search.next() == COMMITS[6]
    search.found[COMMITS[6]] = Found(commit=COMMITS[6], standing="skipped")
    assert search.next() in (COMMITS[5], COMMITS[7])
    search.found[COMMITS[0]] = Found(commit=COMMITS[0], standing="bad")
    assert search.next() is None
    assert (search.first_bad, search.last_good, search.suspects) == (COMMITS[0], None, [])


@pytest.mark.slow
def test_by_exact_costs_in_a_repository(tmp_path):
    """Found without a clock; said again, with nothing measured, when it is asked again."""
    root = tmp_path / "mine"
    root.mkdir()
    git(root, "init", "--quiet")
    good = commit(root, **{"model.py": model(8)})
    commit(root, "broken", **{"model.py": "def build("})
    guilty = commit(root, "wider, by much", **{"model.py": model(16)})

    def bisect(*words: str) -> subprocess.CompletedProcess[str]:
        options = ("--device", "cpu", "--threads", "1", "--impl", "model:build", "--length", "256")
        return bench("bisect", "--good", good, *options, "--out", str(tmp_path / "kept"), *words, cwd=root)

    done = bisect("--figure", "flops")
    assert done.returncode == 0, done.stderr
    assert f"first costlier commit: {guilty} wider, by much" in done.stdout
    assert "parameters " in done.stdout
    assert "or one before it that was skipped" in done.stdout
    before = sorted(Path(tmp_path / "kept").iterdir())
    again = bisect("--figure", "flops", "--json")
    answer = json.loads(again.stdout)
    assert answer["first_bad"]["commit"] == guilty
    assert sorted(Path(tmp_path / "kept").iterdir()) == before
    none = bisect("--figure", "flops", "--bad", "HEAD~1", "--out", str(tmp_path / "second"))
    assert none.returncode == 2
    assert "bench: the bad end, " in none.stderr
    assert "; name another with --bad" in none.stderr
    other = bisect("--figure", "memory")
    assert other.returncode == 2
    assert "holds another bisection" in other.stderr
    assert git(root, "worktree", "list").count("\n") == 0
