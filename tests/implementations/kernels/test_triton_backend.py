import pytest
import torch
from torch import nn

from implementations.kernels import backend
from implementations.kernels.backend import BackendUnavailable, backend_of, choose, use_backend, why_plain

CPU, CUDA, OTHER = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.fixture(params=["installed", "missing"])
def triton(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether triton can run on CUDA devices; never on the CPU."""

    def unavailable(device: torch.device) -> str | None:
        if request.param == "missing":
            return "triton is not installed"
        return None if device.type == "cuda" else f"not on {device.type}"

    monkeypatch.setattr(backend, "unavailable", unavailable)
    return request.param


def test_auto(triton: str) -> None:
    assert choose("auto", CPU) == "cpu"
    assert choose("auto", CUDA) == ("triton" if triton == "installed" else "torch")
    assert choose("auto", OTHER) == "torch"


def test_what_is_asked_for_runs_or_is_refused_in_one_line(triton: str) -> None:
    for device in (CPU, CUDA):
        assert choose("torch", device) == "torch"
    assert choose("cpu", CPU) == "cpu"
    with pytest.raises(BackendUnavailable, match=r"^backend cpu: .* not on cuda$"):
        choose("cpu", CUDA)
    with pytest.raises(BackendUnavailable, match=r"^backend triton: [^\n]+$"):
        choose("triton", CPU)
    if triton == "installed":
        assert choose("triton", CUDA) == "triton"
    else:
        with pytest.raises(BackendUnavailable, match="not installed"):
            choose("triton", CUDA)


def test_unknown_names_are_listed() -> None:
    with pytest.raises(ValueError, match="auto, torch, cpu, triton"):
        choose("cuda", CPU)  # type: ignore[arg-type]


def test_use_backend_reaches_every_fused_layer() -> None:
    class Fused(nn.Module):
        backend = "auto"

    model = nn.Sequential(nn.Linear(1, 1), nn.Sequential(Fused()))
    assert use_backend(model, "torch") is model
    assert model[1][0].backend == "torch"
    assert Fused.backend == "auto"
    assert not hasattr(model[0], "backend")


def test_nothing_is_tried_out_for_a_model_without_fused_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton is not imported, and compiles nothing, in a process that would not use it."""
    monkeypatch.setattr(backend, "unavailable", lambda device: pytest.fail("it was tried out"))
    assert backend_of(nn.Linear(1, 1), "auto", CUDA) == "torch"
    assert why_plain(nn.Linear(1, 1), "auto", CUDA) is None
    with pytest.raises(ValueError, match="auto, torch, cpu, triton"):
        backend_of(nn.Linear(1, 1), "cuda", CUDA)  # type: ignore[arg-type]
