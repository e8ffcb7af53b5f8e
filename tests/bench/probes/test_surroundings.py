"""What else the machine is at: read from the kernel, and told in a line each."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench.probes.surroundings import measuring, read_surroundings
from bench.records.surroundings import Surroundings, remarks

QUIET = Surroundings(load_average=0.1, cores=4, on_battery=False, throttled=3, clock_share=1.0)


def with_(**changes) -> Surroundings:
    return msgspec.structs.replace(QUIET, **changes)


def test_a_quiet_machine_needs_no_remark():
    assert remarks(QUIET) == []
    assert remarks(QUIET, with_(load_average=2.5), own_load=2) == [], "the run's own threads are no company"
    unknown = Surroundings(load_average=0.0, cores=1)
    assert remarks(unknown, unknown) == []


@pytest.mark.parametrize(
    ("before", "after", "name", "words"),
    [
        ({"load_average": 1.5}, None, "load", "load 1.5 on 4 cores: other work"),
        ({}, {"load_average": 3.5}, "load", "load 3.5 on 4 cores at the end"),
        (
            {"others": ["bench run (process 7)"]},
            None,
            "another bench",
            "at work, bench run (process 7): two that",
        ),
        ({}, {"others": ["bench regress (process 8)"]}, "another bench", "process 8"),
        ({"on_battery": True}, None, "power", "on battery"),
        ({"clock_share": 0.6}, None, "clock", "held at 60%"),
        ({}, {"throttled": 5}, "throttling", "slowed down for heat 2 times"),
    ],
)
def test_what_stands_in_the_way_is_told(before, after, name, words):
    (remark,) = remarks(with_(**before), None if after is None else with_(**after), own_load=2)
    assert remark.name == name
    assert words in remark.line


def test_what_the_kernel_says_is_read(tmp_path):
    for number, (count, allowed) in enumerate([(2, 3_000_000), (5, 1_500_000)]):
        cpu = tmp_path / f"devices/system/cpu/cpu{number}"
        for file, value in {
            "thermal_throttle/core_throttle_count": count,
            "cpufreq/scaling_max_freq": allowed,
            "cpufreq/cpuinfo_max_freq": 3_000_000,
        }.items():
            (cpu / file).parent.mkdir(parents=True, exist_ok=True)
            (cpu / file).write_text(f"{value}\n")
    found = read_surroundings(tmp_path)
    assert (found.throttled, found.clock_share) == (7, 0.5)
    nothing = read_surroundings(tmp_path / "none")
    assert (nothing.throttled, nothing.clock_share) == (None, None)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("/usr/bin/bench reproduce run.bundle", "bench reproduce"),
        ("/usr/bin/python /home/me/bin/bench run --suite ci", "bench run"),
        ("python -P -m bench.cli regress --base HEAD", "bench regress"),
        ("bench doctor", "bench doctor"),
        ("bench table run.jsonl", None),
        ("python -P -m bench.workers.template", None),
        ("vim bench", None),
        ("timeout 600 nice bench run --suite ci", None),
        ("", None),
    ],
)
def test_which_processes_measure(line, command):
    assert measuring(line.split()) == command


def test_another_bench_at_work_is_seen(tmp_path):
    """A process called as `bench run` is, which only waits for its standard input to end."""
    program = tmp_path / "bench"
    program.write_text("import sys\nprint('ready', flush=True)\nsys.stdin.read()\n")
    with subprocess.Popen(
        [sys.executable, program, "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        other.stdout.readline()
        assert f"bench run (process {other.pid})" in read_surroundings(Path("/sys")).others
        other.stdin.close()
