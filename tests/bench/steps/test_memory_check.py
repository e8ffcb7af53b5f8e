"""Tensors' bytes and the kernel's pages, of the same step: two ways to say what it needs."""

import msgspec
import pytest

from bench.steps.memory_check import Agreement, check_apart
from bench.suites import reading as suites

CASE = msgspec.structs.replace(suites.load("ci").cases("cpu")[0], activation=None, length=1024)


@pytest.mark.parametrize("implementation", ["transformer", "luna-256"])
def test_resident_memory_is_the_tensors(implementation, monkeypatch):
    # What keeps freed memory while timing must not reach this process.
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1073741824")
    found = check_apart(msgspec.structs.replace(CASE, implementation=implementation))
    assert found.unreadable is None
    assert found.tensor_bytes > 32 << 20
    assert found.resident_bytes == pytest.approx(found.tensor_bytes, rel=0.15)
    assert found.agrees


def test_what_does_not_agree():
    assert not Agreement(tensor_bytes=100, resident_bytes=120).agrees
    assert not Agreement(tensor_bytes=100, resident_bytes=80).agrees
    assert not Agreement(unreadable="/proc/self/clear_refs: Permission denied").agrees
    assert Agreement(tensor_bytes=100, resident_bytes=114).agrees


def test_a_case_that_does_not_run_has_its_reason():
    found = check_apart(msgspec.structs.replace(CASE, implementation="no_such_module:build"))
    assert "No module named 'no_such_module'" in found.unreadable
