"""What the harness reads of a GPU, on one: its counters, its streams, its profiler, its faults."""

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import torch
import yaml

from bench.correctness.modes import compare_with_eager
from bench.probes import gpu_state, nvml
from bench.probes.clock import time_steps
from bench.probes.environment import read_environment
from bench.probes.gpu_busy import busy_of
from bench.records.reading import read
from bench.steps import modes
from bench.steps.profiler import profile
from bench.steps.step import Step
from bench.suites import reading as suites
from bench.suites.case import Case

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

DEVICE = "cuda:0"
RUN = Path(__file__).parent / "run"


def case(name: str, **changes: object) -> Case:
    suite = suites.load("lra-text-4k", {"implementations": ["transformer", name], "lengths": [1024]})
    (found,) = [one for one in suite.cases("cuda") if one.implementation == name]
    return msgspec.structs.replace(found, batch=2, **changes)


@pytest.fixture
def driver() -> nvml.Nvml:
    found, why = nvml.open_device(DEVICE)
    if found is None:
        pytest.skip(str(why))
    return found


def work() -> None:
    """Some milliseconds of products."""
    x = torch.ones(4096, 4096, device=DEVICE)
    for _ in range(20):
        x = x @ x


def test_the_driver_counts_what_holds_the_clocks_down(driver: nvml.Nvml) -> None:
    before = gpu_state.reading(driver, DEVICE)
    work()
    torch.cuda.synchronize()
    run = gpu_state.run_between(before, gpu_state.reading(driver, DEVICE), driver)
    assert gpu_state.settings_of(driver).throttle_counters
    assert run.held_back_seconds is not None
    assert all(0 <= seconds < 60 for seconds in run.held_back_seconds.values())
    assert run.sm_mhz is not None
    assert run.sm_mhz > 0


def test_the_drivers_figure_of_this_process_follows_or_says_why_not(driver: nvml.Nvml) -> None:
    torch.ones(1, device=DEVICE)
    why = nvml.why_distrusted(driver, DEVICE)
    assert why is None or "MIG" in why or "PID namespace" in why


def test_work_on_a_side_stream_is_not_timed_too_fast() -> None:
    side = torch.cuda.Stream()

    def aside() -> None:
        with torch.cuda.stream(side):
            work()

    for step in (work, aside):
        time_steps(step, 2, torch.device(DEVICE))
    begin = time.perf_counter()
    plain = time_steps(work, 5, torch.device(DEVICE))
    wall = time.perf_counter() - begin
    hidden = time_steps(aside, 5, torch.device(DEVICE))
    assert plain.aside == 0.0
    assert hidden.aside > 0.0
    assert 0.5 * plain.seconds < hidden.seconds < 2 * wall


def test_the_profiler_shows_how_long_the_device_is_busy() -> None:
    work()
    found = busy_of(work, torch.device(DEVICE))
    assert found is not None, "the profiler shows no kernels"
    seconds = time_steps(work, 1, torch.device(DEVICE)).seconds
    assert found.kernels >= 20
    assert 0.5 * seconds < found.seconds < 2 * seconds


def test_a_profile_of_the_triton_form_has_its_stages() -> None:
    made = profile(case("seqboat-fused"), read_environment("cuda", 1), steps=2)
    timed = {stage.path[-1] for stage in made.stages if stage.path and stage.forward.seconds > 0}
    assert {"EMA", "attention", "compress", "extract"} <= timed


@pytest.mark.parametrize("name", ["transformer", "seqboat-fused"])
def test_a_whole_step_is_one_graph(name: str) -> None:
    step = Step(case(name, mode="graph"), DEVICE)
    step.calibrate()
    modes.enter(step)
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    assert step.not_finite() is None
    found = compare_with_eager(step)
    assert found.agrees, found


def test_an_illegal_access_costs_its_own_row(tmp_path: Path) -> None:
    """Of three models, the middle one reads out of bounds in its second step."""
    suite = tmp_path / "faulty.yaml"
    models = ["transformer", "bad_model:build", "s4"]
    sizes = {"workload": "text", "lengths": [128], "implementations": models, "baseline": "transformer"}
    suite.write_text(yaml.safe_dump({"description": "a fault", **sizes}))
    out = tmp_path / "run.jsonl"
    options = ["run", "--suite", str(suite), "--device", "cuda", "--quick", "--out", str(out)]
    subprocess.run([sys.executable, "-m", "bench", *options], check=False, cwd=RUN)
    rows = {solo.case.implementation: solo for solo in read(out).solos.values()}
    assert rows["bad_model:build"].status == "error"
    assert "CUDA error" in str(rows["bad_model:build"].reason)
    assert {rows[name].status for name in ("transformer", "s4")} == {"ok"}
