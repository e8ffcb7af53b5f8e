"""The doctor: every finding has its advice, and noise is told from identical code."""

import json
import math

import msgspec
import pytest
from msgspec.structs import replace

from bench.gate import doctor
from bench.gate.gpu_checks import driver_check, gpu_checks, variables_check
from bench.gate.noise import noise_of
from bench.measure.pairing import Cores
from bench.probes import health
from bench.probes.environment import read_environment
from bench.probes.health import GpuHealth
from bench.records.gpu import GpuSettings
from bench.records.reading import read
from bench.records.surroundings import Surroundings
from bench.steps.memory_check import Agreement
from bench.suites import reading as suites
from bench.system.child import ChildFailed
from bench.views.tables.formats import render

from ..in_process import bench

ENVIRONMENT = read_environment("cpu", 1)
CASES = suites.load("ci").cases("cpu")


SETTINGS = GpuSettings(
    power_limit_watts=700,
    default_power_limit_watts=700,
    max_sm_mhz=1980,
    held_by_clock_settings=False,
    persistence=True,
    compute_mode="default",
    ecc=True,
    mps=False,
    throttle_counters=["power cap", "thermal slowdown"],
)


def by_name(checks) -> dict[str, doctor.CheckUp]:
    return {check.name: check for check in checks}


@pytest.mark.parametrize(
    ("check", "status", "word"),
    [
        (driver_check("599.99", "12.8"), "ok", ""),
        (driver_check(None, "12.8"), "warning", "nvidia-smi"),
        (doctor.load_checks(Surroundings(load_average=0.2, cores=4))[0], "ok", ""),
        (doctor.load_checks(Surroundings(load_average=3.0, cores=4))[0], "warning", "end it"),
        (
            doctor.load_checks(Surroundings(load_average=0, cores=4, on_battery=True))[1],
            "warning",
            "plug",
        ),
        (variables_check({"TRITON_CACHE_DIR": "/tmp"}, gpu=True), "ok", ""),
        (variables_check({"CUDA_LAUNCH_BLOCKING": "1"}, gpu=False), "ok", ""),
        (variables_check({"CUDA_LAUNCH_BLOCKING": "1"}, gpu=True), "problem", "unset"),
        (doctor.native_check(False, None), "ok", ""),
        (doctor.native_check(False, "no C compiler"), "warning", "torch's operators"),
        (doctor.governor_check("performance"), "ok", ""),
        (doctor.governor_check("powersave"), "warning", "cpupower"),
        (doctor.governor_check(None), "ok", ""),
        (doctor.threads_check(2, 2, None), "ok", ""),
        (doctor.threads_check(4, 2, None), "problem", "--threads 2"),
        (doctor.threads_check(4, 8, 1.5), "problem", "--threads 1"),
        (doctor.figures_check(Agreement(tensor_bytes=100, resident_bytes=110)), "ok", ""),
        (doctor.figures_check(Agreement(tensor_bytes=100, resident_bytes=150)), "warning", "apart"),
        (doctor.figures_check(Agreement(unreadable="denied")), "warning", "can't be read"),
        (doctor.memory_check(8 << 30, 16 << 30), "ok", ""),
        (doctor.memory_check(1 << 30, 16 << 30), "warning", "free some"),
    ],
)
def test_a_finding_and_its_advice(check, status, word):
    assert check.status == status
    assert word in check.advice
    assert bool(check.advice) == (status != "ok")


def test_a_sound_gpu_and_its_ailments():
    environment = msgspec.structs.replace(ENVIRONMENT, driver="599.99", cuda="12.8")
    sound = GpuHealth(
        unreachable=None, other_processes=0, clocks={"sm_mhz": 1980}, energy=True, settings=SETTINGS
    )
    assert {check.status for check in gpu_checks(environment, sound)} == {"ok"}
    for change, name, status in (
        ({"throttled": "power cap"}, "throttling", "problem"),
        ({"other_processes": 2}, "company", "problem"),
        ({"other_processes": None}, "company", "warning"),
        ({"distrusted": "another PID namespace"}, "nvml", "warning"),
        ({"clocks": None}, "clocks", "warning"),
        ({"settings": replace(SETTINGS, power_limit_watts=350)}, "power limit", "warning"),
        ({"settings": replace(SETTINGS, persistence=False)}, "persistence", "warning"),
        ({"settings": replace(SETTINGS, compute_mode="exclusive process")}, "compute mode", "problem"),
        ({"settings": replace(SETTINGS, mps=True)}, "MPS", "warning"),
        ({"settings": replace(SETTINGS, throttle_counters=[])}, "throttle counters", "warning"),
        ({"cannot_compile": "Triton can't compile here: no C compiler"}, "triton", "warning"),
    ):
        checks = by_name(gpu_checks(environment, msgspec.structs.replace(sound, **change)))
        assert checks[name].status == status
        assert checks[name].advice
        assert [check.name for check in checks.values() if check.status != "ok"] == [name]
    lost = by_name(gpu_checks(environment, GpuHealth(unreachable="NVML: Driver Not Loaded")))
    assert lost["nvml"].found == "NVML: Driver Not Loaded"
    assert lost["triton"].status == "ok"


@pytest.mark.parametrize("driver", [None, "a driver"])
def test_triton_is_tried_whether_or_not_nvml_tells_anything(monkeypatch, driver):
    monkeypatch.setattr("implementations.kernels.triton.unavailable", lambda device: "no C compiler")
    monkeypatch.setattr(health.nvml, "open_device", lambda device: (driver, "NVML: Driver Not Loaded"))
    for name in ("why_distrusted", "throttle_reasons", "other_processes", "clocks", "energy_millijoules"):
        monkeypatch.setattr(health.nvml, name, lambda *asked: None)
    monkeypatch.setattr(health.gpu_state, "settings_of", lambda driver: SETTINGS)
    found = health.gpu_health("cuda:0")
    assert found.cannot_compile == "no C compiler"
    assert (found.unreachable is None) == (driver is not None)
    environment = msgspec.structs.replace(ENVIRONMENT, driver="599.99", cuda="12.8")
    assert by_name(gpu_checks(environment, found))["triton"].found == "no C compiler"


def test_a_health_that_could_not_be_asked_has_tried_no_kernel(monkeypatch):
    def fails(module, device):
        raise ChildFailed("died of SIGSEGV")

    monkeypatch.setattr(doctor.child, "ask", fails)
    assert doctor._gpu_health("cuda:0").cannot_compile == "not tried: died of SIGSEGV"


def test_what_the_kernel_says_is_read(tmp_path):
    assert health.governor(tmp_path) is None
    folder = tmp_path / "devices/system/cpu/cpu0/cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_governor").write_text("powersave\n")
    assert health.governor(tmp_path) == "powersave"


def test_gates_below_the_noise_are_refused():
    noise = noise_of({CASES[0]: [0.05, -0.05, 0.0]})
    refused = doctor._resolution(noise, 0.03)
    assert refused.status == "problem"
    assert "would not pass identical code" in refused.advice
    assert doctor._resolution(noise, 0.5).status == "ok"
    diagnosis = doctor.Diagnosis(environment=ENVIRONMENT, checks=[refused], noise=noise, noises=[noise])
    assert not diagnosis.sound
    assert math.expm1(noise.floor) == pytest.approx(0.0513, abs=1e-3)
    assert "noise floor: 5.00%" in render(doctor.as_table(diagnosis), "terminal")


@pytest.mark.slow
@pytest.mark.usefixtures("plug_ins")
def test_identical_code_against_itself(write_suite, tmp_path):
    """The made-up step sleeps 20 ms: two processes of it differ by far less than half."""
    suite = write_suite("fault_models:slow", timing={"deadline": "60s", "min_run": "20ms"})
    options = ("--device", "cpu", "--threads", "1", "--suite", suite, "--blocks", "3", "--tolerance", "60%")
    done = bench("doctor", "--aa", "--json", *options, "--out", str(tmp_path / "noise.jsonl"))
    assert done.returncode == 0, done.stderr
    diagnosis = json.loads(done.stdout)
    noise = diagnosis["noise"]
    assert noise["blocks"] == 3
    assert 0 < noise["floor"] < 0.2
    assert noise["cases"][0]["ratio"] == pytest.approx(1.0, abs=0.2)
    assert {"device", "load", "governor", "threads", "memory", "resolution"} <= {
        check["name"] for check in diagnosis["checks"]
    }
    tried = {noise["pairing"]: noise for noise in diagnosis["noises"]}
    files = {"turns": "noise.jsonl", "duet": "noise-duet.jsonl"}
    assert set(tried) == set(files if Cores.of_this_process().half else ["turns"])
    for pairing, found in tried.items():
        assert read(tmp_path / files[pairing]).header.environment.pairing == pairing
        assert found["seconds"] > 0
    assert noise["pairing"] in diagnosis["recommended"]
