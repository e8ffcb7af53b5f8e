import pytest

from implementations.kernels.cpu.native import library


@pytest.fixture(params=["C", "torch"])
def cpu_kernels(request, monkeypatch):
    """What computes fused layers on the CPU: kernels in C, and torch's operators without a compiler."""
    monkeypatch.setenv(library.SETTING, "off" if request.param == "torch" else "on")
    if request.param == "C" and (reason := library.cannot_build()):
        pytest.skip(reason)
    return request.param
