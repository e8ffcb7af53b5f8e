"""The kernel's counters: read from a folder like /proc, and what lies between two readings."""

import os
import signal

import pytest

from bench.probes.conditions import Counters, Watcher, between


@pytest.fixture
def proc(tmp_path):
    """Like /proc, with what each file says to be planted."""

    def write(**files: str):
        for name, text in files.items():
            path = (
                tmp_path
                / {
                    "schedstat": "self/task/11/schedstat",
                    "second": "self/task/12/schedstat",
                    "stat": "stat",
                    "pressure": "pressure/cpu",
                    "mountinfo": "self/mountinfo",
                    "cgroup": "self/cgroup",
                    "quota": "group/cpu.stat",
                }[name]
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def processors(*fields: int) -> str:
    """/proc/stat with those fields for each processor that this process may use, and more for others."""
    lines = [f"cpu{number} {' '.join(map(str, fields))}" for number in os.sched_getaffinity(0)]
    return "\n".join(["cpu 9 9 9 9 9 9 9 9 9 9", *lines, "cpu4711 77777 0 0 0 0 0 0 0 0 0", "intr 5"])


def test_what_lies_between_two_readings(proc):
    count = len(os.sched_getaffinity(0))
    before = Watcher(
        proc(
            schedstat="5000000000 1000000000 7\n",
            stat=processors(100, 0, 50, 900, 10, 1, 2, 30, 0, 0),
            pressure="some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\nfull avg10=0 total=5\n",
        )
    ).read()
    after = Watcher(
        proc(
            schedstat="5100000000 1300000000 9\n",
            second="1 200000000 1\n",
            stat=processors(120, 1, 55, 950, 10, 1, 3, 34, 0, 0),
            pressure="some avg10=0.00 avg60=0.00 avg300=0.00 total=1250000\n",
        )
    ).read()
    found = between(before._replace(processor=1.0, wall=5.0), after._replace(processor=1.1, wall=5.5))
    assert found.wall_seconds == pytest.approx(0.5)
    assert found.processor_seconds == pytest.approx(0.1)
    assert found.queued_seconds == pytest.approx(0.3 + 0.2), "a thread begun in between counts from then on"
    assert found.others_seconds == pytest.approx(0.27 * count - 0.1)
    assert found.stolen_seconds == pytest.approx(0.04 * count)
    assert found.pressure_seconds == pytest.approx(0.25)
    assert found.throttled_seconds is None, "no control group is there"
    assert found.stops == 0


def test_a_thread_that_ended_takes_nothing_back(proc):
    watcher = Watcher(
        proc(schedstat="1 1000000000 7\n", second="1 5000000000 7\n", stat=processors(*[0] * 10))
    )
    before = watcher.read()
    (watcher.proc / "self/task/12/schedstat").unlink()
    proc(schedstat="1 1100000000 7\n")
    assert between(before, watcher.read()).queued_seconds == pytest.approx(0.1)


def test_a_quota_of_a_control_group_is_read(proc):
    folder = proc(
        cgroup="0::/\n",
        quota="usage_usec 5\nnr_throttled 3\nthrottled_usec 1500000\n",
        stat=processors(*[0] * 10),
    )
    proc(mountinfo=f"1 1 0:1 / {folder / 'group'} rw - cgroup2 cgroup2 rw\n")
    watcher = Watcher(folder)
    before = watcher.read()
    proc(quota="usage_usec 5\nnr_throttled 4\nthrottled_usec 1750000\n")
    assert between(before, watcher.read()).throttled_seconds == pytest.approx(0.25)


@pytest.mark.parametrize("broken", ["", "garbage", "cpu0 1 2"])
def test_what_can_not_be_read_is_none_and_never_zero(proc, broken):
    watcher = Watcher(
        proc(schedstat=broken, stat=f"cpu{min(os.sched_getaffinity(0))} {broken}", pressure=broken)
    )
    found = between(watcher.read(), watcher.read())
    assert found.queued_seconds is None
    assert (found.others_seconds, found.stolen_seconds, found.pressure_seconds) == (None, None, None)


def test_a_machine_without_such_files_says_nothing(tmp_path):
    watcher = Watcher(tmp_path)
    assert watcher.read()[2:6] == (None, None, None, None)


def test_being_continued_is_counted():
    """As a process is that somebody had stopped: the signal comes to whom it is sent, stopped or not."""
    before = signal.getsignal(signal.SIGCONT)
    try:
        watcher = Watcher()
        watcher.notice_stops()
        first = watcher.read()
        os.kill(os.getpid(), signal.SIGCONT)
        assert between(first, watcher.read()).stops == 1
        assert between(watcher.read(), watcher.read()).stops == 0
    finally:
        signal.signal(signal.SIGCONT, before)


def test_this_machine_is_readable():
    counters = Watcher().read()
    assert isinstance(counters, Counters)
    assert counters.processor > 0
