"""Environment variables that change what is measured."""

import pytest

from bench.errors import UsageError
from bench.probes import variables
from bench.probes.environment import probe_environment, read_environment


def test_what_changes_a_measurement_is_recorded_and_nothing_else(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("TRITON_CACHE_DIR", "/tmp/x")
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    found = read_environment("cpu", 1).variables
    assert (found["NVIDIA_TF32_OVERRIDE"], found["TRITON_CACHE_DIR"]) == ("0", "/tmp/x")
    assert "secret" not in str(found)


@pytest.mark.parametrize("name", ["CUDA_LAUNCH_BLOCKING", "TRITON_INTERPRET"])
def test_what_makes_timings_worthless_is_refused_on_a_gpu_only(monkeypatch, name):
    for other in variables.REFUSED:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "1")
    with pytest.raises(UsageError, match=rf"^{name}=1: [^\n]+; unset {name}, or choose --device cpu$"):
        probe_environment("cuda")
    variables.refuse("cpu")
    monkeypatch.setenv(name, "0")
    variables.refuse("cuda:0")
