"""NVML through the real binding; only the driver's library is played (nvml_double/nvml.c)."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pynvml
import pytest
import torch

from bench.errors import UsageError
from bench.probes import gpu_state, memory, nvml
from bench.probes.clock_lock import locked_clocks
from bench.probes.energy import energy_of
from bench.records.gpu import GpuSettings

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="the double is compiled with gcc")

UNKNOWN = (1 << 64) - 1
NO_PERMISSION, DRIVER_NOT_LOADED = 4, 9
MIB = 1 << 20
FIRST, SECOND = "11111111-aaaa-bbbb-cccc-000000000000", "22222222-aaaa-bbbb-cccc-000000000000"


class Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("bytes", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class Device(ctypes.Structure):
    _fields_ = (
        ("uuid", ctypes.c_char * 96),
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
        ("process_count", ctypes.c_uint),
        ("processes", Process * 4),
        ("clock_reasons", ctypes.c_ulonglong),
        ("mig", ctypes.c_int),
        ("energy", ctypes.c_ulonglong),
        ("processes_error", ctypes.c_int),
        ("error", ctypes.c_int),
        ("held_back", ctypes.c_ulonglong * 4),
        ("counts_held_back", ctypes.c_int),
        ("lacks", ctypes.c_int),
        ("power_limit", ctypes.c_uint),
        ("default_power_limit", ctypes.c_uint),
        ("persistence", ctypes.c_int),
        ("compute_mode", ctypes.c_int),
        ("ecc", ctypes.c_int),
        ("sm_mhz", ctypes.c_uint),
        ("near", ctypes.c_ulonglong),
    )

    def list_processes(self, **megabytes_by_pid: int) -> None:
        """`p123=64`: process 123 holds 64 MiB; None: its memory is not shown."""
        self.process_count = len(megabytes_by_pid)
        for place, (name, size) in enumerate(megabytes_by_pid.items()):
            self.processes[place] = Process(int(name[1:]), UNKNOWN if size is None else size * MIB)


class State(ctypes.Structure):
    _fields_ = (
        ("init_error", ctypes.c_int),
        ("devices", Device * 2),
        ("cuda", ctypes.c_int),
        ("settings", ctypes.c_ulonglong),
    )


@pytest.fixture(scope="module")
def library_path(tmp_path_factory):
    """The double, under the name by which the binding asks for the driver's library."""
    path = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    source = Path(__file__).parent / "nvml_double" / "nvml.c"
    subprocess.run(
        [
            *("gcc", "-std=c11", "-Wall", "-Werror", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1"),
            *("-o", str(path), str(source)),
        ],
        check=True,
    )
    return path


@pytest.fixture(scope="module")
def library(library_path):
    return ctypes.CDLL(str(library_path))


@pytest.fixture
def state(library, monkeypatch):
    """Two sound devices; the second is ours, as torch's first."""
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    played = State.in_dll(library, "nvml_double")
    ctypes.memset(ctypes.byref(played), 0, ctypes.sizeof(played))
    played.cuda = 13
    for device, uuid in zip(played.devices, (FIRST, SECOND), strict=True):
        device.uuid = f"GPU-{uuid}".encode()
        device.total, device.used = 80_000 * MIB, 500 * MIB
        device.energy = UNKNOWN
        device.counts_held_back, device.persistence, device.ecc, device.sm_mhz = 1, 1, 1, 1980
        device.power_limit = device.default_power_limit = 700_000
    played.devices[1].list_processes(**{"p1": 400, f"p{os.getpid()}": 100})
    return played


@pytest.fixture
def mine(state) -> Device:
    return state.devices[1]


def growing(device: Device, megabytes: int, place: int = 1):
    """An allocation, as the driver would show it."""

    @contextlib.contextmanager
    def allocated(where: str):
        device.processes[place].bytes += megabytes * MIB
        yield
        device.processes[place].bytes -= megabytes * MIB

    return allocated


def test_the_device_is_found_by_its_uuid(state):
    state.devices[0].used = 1 * MIB
    assert nvml.Nvml(SECOND).device_bytes() == 500 * MIB
    assert nvml.Nvml(FIRST.upper()).device_bytes() == 1 * MIB
    with pytest.raises(pynvml.NVMLError, match="Not Found"):
        nvml.Nvml("33333333-aaaa-bbbb-cccc-000000000000")


def test_the_process_is_told_from_others(mine):
    driver = nvml.Nvml(SECOND)
    assert driver.process_bytes() == 100 * MIB
    assert driver.other_processes() == 1
    assert nvml.why_distrusted(driver, "cuda", growing(mine, 256)) is None


@pytest.mark.parametrize(
    ("moved", "words"),
    [(0, "by 0 MiB"), (100, "by 100 MiB"), (2560, "by 2560 MiB")],
)
def test_a_figure_that_does_not_follow_is_not_believed(mine, moved, words):
    """The driver lists our id, but it is another's, or a cached figure."""
    reason = nvml.why_distrusted(nvml.Nvml(SECOND), "cuda", growing(mine, moved))
    assert reason == f"allocating 256 MiB moved this process's figure {words}"


def test_another_pid_namespace(mine):
    mine.list_processes(p1=400, p4194304=100)
    driver = nvml.Nvml(SECOND)
    assert driver.process_bytes() is None
    assert driver.other_processes() is None, "a container's own process has another number there"
    assert "PID namespace" in nvml.why_distrusted(driver, "cuda", growing(mine, 256))


def test_no_process_at_all(mine):
    mine.list_processes()
    assert nvml.Nvml(SECOND).process_bytes() is None
    assert nvml.Nvml(SECOND).other_processes() is None


def test_a_process_whose_memory_is_hidden(mine):
    mine.list_processes(**{f"p{os.getpid()}": None})
    driver = nvml.Nvml(SECOND)
    assert driver.process_bytes() is None
    assert "no permission" in nvml.why_distrusted(driver, "cuda", growing(mine, 256, place=0))


def test_missing_permission_is_the_reason_of_an_absent_figure(mine):
    mine.processes_error = NO_PERMISSION
    driver = nvml.Nvml(SECOND)
    assert nvml.why_distrusted(driver, "cuda", growing(mine, 256)) == "NVML: Insufficient Permissions"
    figure = nvml.read_figure("nvml_process", driver, lambda gpu: gpu.process_bytes(), None)
    assert (figure.bytes, figure.unavailable) == (None, "NVML: Insufficient Permissions")
    assert nvml.other_processes(driver) is None
    whole = nvml.read_figure("nvml_device", driver, lambda gpu: gpu.device_bytes() - 400 * MIB, None)
    assert (whole.bytes, whole.unavailable) == (100 * MIB, None)


def test_a_distrusted_figure_is_not_read(mine):
    figure = nvml.read_figure("nvml_process", nvml.Nvml(SECOND), lambda gpu: gpu.process_bytes(), "it lies")
    assert (figure.bytes, figure.unavailable) == (None, "it lies")
    assert nvml.read_figure("nvml_process", None, lambda gpu: 1, "no driver").unavailable == "no driver"


def test_mig(mine):
    mine.mig = 1
    driver = nvml.Nvml(SECOND)
    assert nvml.why_distrusted(driver, "cuda", growing(mine, 256)).startswith("MIG is on")
    for off in (0, -1):
        mine.mig = off
        assert nvml.why_distrusted(nvml.Nvml(SECOND), "cuda", growing(mine, 256)) is None


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (0x0, []),
        (0x1, []),  # idle
        (0x2, []),  # clocks that were asked for
        (0x4, ["power cap"]),
        (0x8, ["hardware slowdown"]),
        (0x20, ["thermal slowdown"]),
        (0x48, ["hardware slowdown", "hardware thermal slowdown"]),
        (0x80, ["power brake"]),
    ],
)
def test_throttle_reasons(mine, mask, words):
    mine.clock_reasons = mask
    assert nvml.throttle_reasons(nvml.Nvml(SECOND)) == words


def test_a_device_that_fell_off_the_bus_raises_nothing(mine):
    driver = nvml.Nvml(SECOND)
    mine.error = 15
    assert nvml.throttle_reasons(driver) is None
    assert nvml.device_bytes(driver) is None
    assert nvml.energy_millijoules(driver) is None
    assert nvml.read_figure("nvml_device", driver, lambda gpu: gpu.device_bytes(), None).bytes is None


def test_clocks_and_driver(state):
    assert nvml.Nvml(SECOND).clocks() == {
        "sm_mhz": 1980,
        "memory_mhz": 2619,
        "power_milliwatts": 250_000,
        "temperature_celsius": 41,
    }
    assert nvml.driver_version() == "599.99.99"


def test_no_driver(state):
    state.init_error = DRIVER_NOT_LOADED
    assert nvml.driver_version() is None
    with pytest.raises(pynvml.NVMLError, match="Driver Not Loaded"):
        nvml.Nvml(SECOND)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("step_seconds", "in_a_run", "steps", "seconds"), [(2.0, 1, 3, 6.0), (0.01, 50, 500, 5.0)]
)
def test_energy_of_a_step_and_of_the_idle_device(mine, step_seconds, in_a_run, steps, seconds):
    """60 W idle, 250 W in steps; the first one, which gets its memory, takes longer and counts nothing."""
    driver, clock = nvml.Nvml(SECOND), Clock()
    mine.energy = 1_000_000
    runs = []

    def idle(seconds: float) -> None:
        clock.sleep(seconds)
        mine.energy += round(60_000 * seconds)

    def run(count: int) -> float:
        took = step_seconds * count * (1 if runs else 10)
        clock.sleep(took)
        mine.energy += round(250_000 * took)
        runs.append(count)
        return took

    energy = energy_of(run, lambda: nvml.energy_millijoules(driver), clock=clock, sleep=idle)
    assert energy.step_joules == pytest.approx(250 * step_seconds)
    assert energy.idle_watts == pytest.approx(60)
    assert (energy.steps, energy.seconds) == (steps, pytest.approx(seconds))
    assert set(runs[2:]) == {in_a_run}


def test_energy_is_absent_without_a_counter(mine):
    driver, clock = nvml.Nvml(SECOND), Clock()
    assert energy_of(float, lambda: nvml.energy_millijoules(driver), clock=clock) is None
    assert energy_of(float, lambda: nvml.energy_millijoules(None), clock=clock) is None
    assert clock.now == 0.0


def test_energy_is_absent_where_the_counter_is_lost_on_the_way(mine):
    driver, clock = nvml.Nvml(SECOND), Clock()
    mine.energy = 1_000_000

    def run(steps: int) -> float:
        clock.sleep(2.0 * steps)
        mine.energy = UNKNOWN
        return 2.0 * steps

    counter = lambda: nvml.energy_millijoules(driver)  # noqa: E731
    assert energy_of(run, counter, clock=clock, sleep=clock.sleep) is None


def test_memory_follows_a_curve(mine):
    """What a run of steps sees of a device whose use rises and falls."""
    driver = nvml.Nvml(SECOND)
    seen = []
    for megabytes in (100, 300, 900, 300):
        mine.processes[1].bytes = megabytes * MIB
        seen.append(driver.process_bytes())
    assert seen == [100 * MIB, 300 * MIB, 900 * MIB, 300 * MIB]


def test_a_lost_neighbour_hides_no_device(state):
    state.devices[0].error = 15
    assert nvml.Nvml(SECOND).device_bytes() == 500 * MIB


def test_one_clock_that_is_not_told_costs_no_other(mine):
    mine.sm_mhz = 0
    assert nvml.Nvml(SECOND).clocks().keys() == {"memory_mhz", "power_milliwatts", "temperature_celsius"}
    assert gpu_state.sm_clock(nvml.Nvml(SECOND)) is None


@pytest.fixture
def allocations(monkeypatch):
    """Blocks that torch's allocator had from the driver."""
    made = {"num_device_alloc": 7}
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: dict(made))
    return made


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        ((0, 0, 0, 0), None),
        ((4, 0, 0, 0), None),  # less than a twentieth of the run
        ((200, 0, 0, 0), None),  # a large GPU at full load
        ((0, 20, 0, 0), "thermal slowdown"),
        ((200, 9, 0, 0), None),
        ((200, 20, 0, 0), "thermal slowdown"),
        ((0, 8, 8, 0), "thermal slowdown, hardware thermal slowdown"),
        ((0, 0, 0, 200), "power brake"),
    ],
)
def test_what_held_a_runs_clocks_down_is_counted_over_the_run(mine, allocations, milliseconds, words):
    """The run takes 200 ms; what happened before it does not count."""
    driver = nvml.Nvml(SECOND)
    for place in range(4):
        mine.held_back[place] = 1_000_000_000
    before = gpu_state.reading(driver, "cuda")
    for place, count in enumerate(milliseconds):
        mine.held_back[place] += count * 1_000_000
    mine.sm_mhz, allocations["num_device_alloc"] = 1410, 9
    run = gpu_state.run_between(before, gpu_state.reading(driver, "cuda"), driver)
    assert gpu_state.throttled(run, 0.2) == words
    assert (run.sm_mhz, run.allocations) == (1410, 2)
    assert sum(run.held_back_seconds.values()) == pytest.approx(sum(milliseconds) / 1e3)


def test_a_driver_without_counters_tells_nothing_of_them(mine, allocations):
    mine.counts_held_back = 0
    driver = nvml.Nvml(SECOND)
    run = gpu_state.run_between(gpu_state.reading(driver, "cuda"), gpu_state.reading(driver, "cuda"), driver)
    assert (run.held_back_seconds, gpu_state.throttled(run, 0.2)) == (None, None)
    assert (
        gpu_state.run_between(gpu_state.reading(None, "cuda"), gpu_state.reading(None, "cuda"), None).sm_mhz
        is None
    )


def hardware_fields(monkeypatch, thermal: int | None, brake: int | None) -> None:
    """Numbers of the binding, None in one that has no such names."""
    for name, number in (("HW_THERM_SLOWDOWN", thermal), ("HW_POWER_BRAKE_SLOWDOWN", brake)):
        name = f"NVML_FI_DEV_CLOCKS_EVENT_REASON_{name}"
        if number is None:
            monkeypatch.delattr(pynvml, name)
        else:
            monkeypatch.setattr(pynvml, name, number)


STABLE = ["power cap", "thermal slowdown"]
ALL = [*STABLE, "hardware thermal slowdown", "power brake"]


@pytest.mark.parametrize(
    ("cuda", "fields", "counted"),
    [
        (13, (270, 271), ALL),
        (12, (252, 253), ALL),
        (12, (270, 271), STABLE),  # a new binding on an old driver
        (13, (252, 253), STABLE),
        (13, (None, None), STABLE),  # the oldest binding that is asked for
    ],
)
def test_a_field_that_binding_and_driver_number_differently_is_not_read(
    mine, state, allocations, monkeypatch, cuda, fields, counted
):
    """There, it is a setting; the double's moves by a second whenever it is read."""
    state.cuda = cuda
    hardware_fields(monkeypatch, *fields)
    driver = nvml.Nvml(SECOND)
    assert gpu_state.settings_of(driver).throttle_counters == counted
    before = gpu_state.reading(driver, "cuda")
    mine.held_back[1] += 20_000_000
    run = gpu_state.run_between(before, gpu_state.reading(driver, "cuda"), driver)
    assert run.held_back_seconds == {"thermal slowdown": pytest.approx(0.02)}


def test_one_counter_that_is_missing_costs_no_other(mine, allocations):
    mine.lacks = 0b100
    driver = nvml.Nvml(SECOND)
    before = gpu_state.reading(driver, "cuda")
    mine.held_back[3] += 20_000_000
    run = gpu_state.run_between(before, gpu_state.reading(driver, "cuda"), driver)
    assert gpu_state.throttled(run, 0.2) == "power brake"
    assert gpu_state.settings_of(driver).throttle_counters == [*STABLE, "power brake"]


def test_a_driver_with_the_older_call_alone_counts_power_and_heat(mine, allocations):
    mine.counts_held_back = 2
    driver = nvml.Nvml(SECOND)
    before = gpu_state.reading(driver, "cuda")
    mine.held_back[1] += 20_000_000
    run = gpu_state.run_between(before, gpu_state.reading(driver, "cuda"), driver)
    assert gpu_state.throttled(run, 0.2) == "thermal slowdown"


@pytest.mark.parametrize(
    ("mask", "words"), [(0, None), (0x4, None), (0x24, "thermal slowdown"), (0x80, "power brake")]
)
def test_without_counters_the_reasons_right_after_a_run_decide(mine, allocations, mask, words):
    mine.counts_held_back, mine.clock_reasons = 0, mask
    driver = nvml.Nvml(SECOND)
    now = gpu_state.reading(driver, "cuda")
    run = gpu_state.run_between(now, gpu_state.reading(driver, "cuda"), driver)
    assert run.held_back_seconds is None
    assert gpu_state.throttled(run, 0.2) == words
    assert gpu_state.settings_of(driver).throttle_counters == []


def test_the_oldest_binding_that_is_asked_for_is_enough():
    """Modules that ask NVML are imported by every worker, on a CPU too; 12.535 has no names of hardware's."""
    script = (
        "import pynvml\n"
        "for name in [one for one in vars(pynvml) if 'CLOCKS_EVENT_REASON' in one]: delattr(pynvml, name)\n"
        "import bench.workers.worker, bench.probes.gpu_state\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_settings_are_read_one_by_one(mine):
    mine.compute_mode, mine.ecc, mine.power_limit, mine.clock_reasons = 3, -1, 350_000, 2
    assert gpu_state.settings_of(nvml.Nvml(SECOND)) == GpuSettings(
        power_limit_watts=350,
        default_power_limit_watts=700,
        max_sm_mhz=1980,
        held_by_clock_settings=True,
        persistence=True,
        compute_mode="exclusive process",
        ecc=None,
        mig=False,
        mps=False,
        throttle_counters=ALL,
    )


@pytest.fixture
def other_process(library_path, monkeypatch, tmp_path):
    """What is done to clocks in processes that are started now; an empty file if nothing is permitted."""
    log = tmp_path / "clocks.txt"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library_path.parent))
    monkeypatch.setenv("NVML_DOUBLE_UUID", f"GPU-{FIRST}")
    monkeypatch.setenv("NVML_DOUBLE_LOG", str(log))
    return log


def test_clocks_are_locked_within_the_context_and_given_back(other_process):
    with contextlib.suppress(KeyError), locked_clocks(FIRST, 1410):
        assert other_process.read_text() == "locked 1410\n"
        raise KeyError
    assert other_process.read_text() == "locked 1410\nreset 0\n"


def test_clocks_that_may_not_be_locked_are_refused_in_one_line(other_process, monkeypatch):
    monkeypatch.delenv("NVML_DOUBLE_LOG")
    words = r"^--lock-clocks 1410: NVML: Insufficient Permissions; it takes root[^\n]+$"
    with pytest.raises(UsageError, match=words), locked_clocks(FIRST, 1410):
        pass


HOLDER = """
import sys, time
from bench.probes.clock_lock import locked_clocks
with locked_clocks(sys.argv[1], 1410):
    print("holds", flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_gives_its_clocks_back(other_process, number):
    """The process that holds them has heard of neither signal, and ends by itself."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, FIRST], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"holds\n"
        holder.send_signal(number)
    end = time.monotonic() + 30
    while "reset" not in other_process.read_text():
        assert time.monotonic() < end, "clocks stay locked"
        time.sleep(0.01)
    assert other_process.read_text() == "locked 1410\nreset 0\n"


def test_processors_beside_the_device_are_those_that_may_be_used(mine, monkeypatch):
    monkeypatch.setattr(gpu_state, "allowed", lambda: (1, 2, 9))
    assert gpu_state.near_processors(nvml.Nvml(SECOND)) == ()
    mine.near = 0b110111
    assert gpu_state.near_processors(nvml.Nvml(SECOND)) == (1, 2)


def test_what_only_the_driver_sees_is_what_torchs_allocator_has_not_reserved(mine):
    driver = nvml.Nvml(SECOND)
    process = nvml.read_figure("nvml_process", driver, lambda gpu: gpu.process_bytes(), None)
    assert memory._outside(process, 60 * MIB).bytes == 40 * MIB
    mine.list_processes(p1=400)
    hidden = nvml.read_figure("nvml_process", driver, lambda gpu: gpu.process_bytes(), None)
    outside = memory._outside(hidden, 60 * MIB)
    assert (outside.bytes, outside.unavailable) == (None, "not listed by the driver")


def test_what_a_library_prints_is_no_answer_of_whoever_locks(other_process, monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('hello from the site')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with locked_clocks(FIRST, 1410):
        assert other_process.read_text() == "locked 1410\n"
    assert other_process.read_text() == "locked 1410\nreset 0\n"
