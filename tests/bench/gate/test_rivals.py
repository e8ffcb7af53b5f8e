"""Rules of other tools, on made-up timings whose noise is known."""

import numpy as np
import pytest

from bench.gate import rivals
from bench.gate.rivals import RIVALS, alarms, table

from .test_machine_study import against_itself


def blocks(process: float, run: float, seed: int = 0):
    """Six blocks of eighteen runs of either side; noise of processes, and of runs."""
    random = np.random.default_rng(seed)

    def side():
        return np.exp(random.normal(0, process) + random.normal(0, run, size=(1, 18)))

    return [(side(), side()) for _ in range(6)]


@pytest.mark.parametrize("name", RIVALS)
def test_without_noise_every_tool_is_right(name):
    quiet = [blocks(process=0.0, run=0.001)]
    assert alarms(quiet, *RIVALS[name], 0.0, 50) == 0.0
    assert alarms(quiet, *RIVALS[name], 0.1, 50) == 1.0


def test_the_luck_of_a_process_is_taken_for_a_change_by_tools_that_have_one_of_each():
    noisy = [blocks(process=0.05, run=0.001, seed=seed) for seed in range(5)]
    found = {name: alarms(noisy, *of, 0.0, 100) for name, of in RIVALS.items()}
    assert found["pytest-benchmark, `compare-fail=mean:3%`"] > 0.2
    assert found["hyperfine, its ± excludes 1"] < found["pytest-benchmark, `compare-fail=mean:3%`"]


def test_a_burst_moves_a_mean_and_no_median():
    disturbed = blocks(process=0.0, run=0.001)
    for _, head in disturbed:
        head[0, :2] *= 8
    found = {name: alarms([disturbed], *of, 0.0, 50) for name, of in RIVALS.items()}
    assert found["pytest-benchmark, `compare-fail=mean:3%`"] > 0.9
    assert found["asv continuous, `--factor 1.03 --interleave-rounds`"] == 0.0


def test_the_gate_has_a_row_of_its_own():
    text = table([against_itself(0.01), against_itself(0.002, "duet")], experiments=20)
    rows = [line.split("|")[1].strip() for line in text.splitlines()[2:]]
    assert rows == [*RIVALS, "`bench regress --pairing turns`", "`bench regress --pairing duet`"]


def test_the_gates_row_is_its_first_stage(monkeypatch):
    stages = []

    def rates(cases, slowdown, slower, experiments, second_stage=True):
        stages.append(second_stage)
        return {"REGRESSED": 0.0}

    monkeypatch.setattr(rivals, "rates", rates)
    table([against_itself(0.01)], experiments=2)
    assert set(stages) == {False}
