"""Limits of containers: of both versions of control groups, of nested ones, and of the shell."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.measure.procedure import Procedure
from bench.probes import limits
from bench.suites import reading as suites

from ..made_up import CPU

GIB = 1 << 30
V2 = "30 23 0:26 {root} {mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "35 31 0:32 {root} {mount} rw,relatime shared:9 - cgroup cgroup rw,memory"


@pytest.fixture
def grouped(tmp_path):
    """A /proc whose process is in a control group, and the files of that group and of those around it."""

    def make(mounted: str, group: str, files: dict[str, object], root: str = "/", line: str = "0::") -> Path:
        mount = tmp_path / "cgroup"
        for name, content in files.items():
            (mount / name).parent.mkdir(parents=True, exist_ok=True)
            (mount / name).write_text(f"{content}\n")
        here = tmp_path / "proc" / "self"
        here.mkdir(parents=True)
        (here / "cgroup").write_text(f"9:cpuset:/\n{line}{group}\n")
        (here / "mountinfo").write_text(
            f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n{mounted.format(root=root, mount=mount)}\n"
        )
        return here.parent

    return make


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """One with 64 GiB, of which 48 are free."""

    class Memory:
        total, available = 64 * GIB, 48 * GIB

    monkeypatch.setattr(psutil, "virtual_memory", Memory)


def test_a_machine_without_control_groups(tmp_path):
    assert limits.total_memory(tmp_path) == 64 * GIB
    assert limits.free_memory(tmp_path) == 48 * GIB
    assert limits.cpu_quota(tmp_path) is None


def test_the_tightest_of_nested_groups_counts(grouped):
    proc = grouped(
        V2,
        "/pod/container",
        {
            "pod/memory.max": 4 * GIB,
            "pod/memory.current": 3 * GIB,
            "pod/memory.stat": f"anon 7\ninactive_file {GIB}",
            "pod/container/memory.max": "max",
            "pod/container/memory.current": GIB,
            "pod/container/cpu.max": "150000 100000",
            "pod/cpu.max": "max 100000",
        },
    )
    assert limits.total_memory(proc) == 4 * GIB
    assert limits.free_memory(proc) == 2 * GIB
    assert limits.cpu_quota(proc) == 1.5


def test_version_1_and_its_huge_number_for_no_limit(grouped):
    proc = grouped(
        V1,
        "/job/step",
        {
            "memory.limit_in_bytes": 9223372036854771712,
            "memory.usage_in_bytes": 20 * GIB,
            "job/step/memory.limit_in_bytes": 2 * GIB,
            "job/step/memory.usage_in_bytes": GIB,
            "job/step/memory.stat": f"total_inactive_file {GIB // 2}",
        },
        line="4:memory:",
    )
    assert limits.total_memory(proc) == 2 * GIB
    assert limits.free_memory(proc) == 1.5 * GIB


def test_a_container_sees_its_group_as_the_mounts_root(grouped):
    proc = grouped(V1, "/docker/abc", {"memory.limit_in_bytes": GIB}, root="/docker/abc", line="4:memory:")
    assert limits.total_memory(proc) == GIB


def test_a_limit_around_the_mount_is_told_by_the_kernel(grouped):
    """A container without a limit of its own, in a pod that has one."""
    files = {
        "memory.limit_in_bytes": 9223372036854771712,
        "memory.stat": f"hierarchical_memory_limit {2 * GIB}",
    }
    proc = grouped(V1, "/pod/c", files, root="/pod/c", line="4:memory:")
    assert limits.total_memory(proc) == 2 * GIB


@pytest.mark.parametrize("free", [0, GIB // 2, GIB, 3 * GIB])
def test_a_worker_always_has_a_limit_and_some_room(free, monkeypatch):
    monkeypatch.setattr("bench.measure.procedure.free_memory", lambda: free)
    suite = suites.load("ci")
    limit = Procedure(suite, CPU).prepare(suite.cases("cpu")[0]).memory_limit_bytes
    assert 0 <= limit <= free
    assert limit > 0 or free == 0


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts all data on Linux only")
@pytest.mark.parametrize(("given", "wanted", "expected"), [(2, 8, "2"), (-1, 8, "8 more")])
def test_the_limit_of_the_shell_stays(given, wanted, expected):
    code = f"""
import resource
from bench.system import memory_limit
if {given} > 0:
    resource.setrlimit(resource.RLIMIT_DATA, ({given} << 30, {given} << 30))
held = memory_limit._data_bytes()
memory_limit.limit_memory({wanted} << 30)
soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
print(soft >> 30 if {given} > 0 else f"{{(soft - held) >> 30}} more" if held else "nothing held")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
