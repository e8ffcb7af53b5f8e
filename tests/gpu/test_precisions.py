"""The Triton kernels in the precisions and sizes of suites, on a GPU."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from implementations.task import Task

from .pairs import TEXT, error_of, outcome, pair

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

ENWIK8 = Task("enwik8", length=2048, classes=257, head="language-model", vocabulary=257)
TEXT_MODELS = ["seqboat-fused", "mega-chunk-fused"]
ROUNDING_FACTOR = 3
"""A fused form's error, over the plain form's own: both are held against float64."""


@pytest.fixture
def tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)


def errors(
    plain: dict[str, Tensor], fused: dict[str, Tensor], exact: dict[str, Tensor], least: float
) -> dict[str, tuple[float, float]]:
    """Tensors whose error is too large: the fused form's, and the one that is allowed."""
    found = {
        name: (
            error_of(fused[name], true),
            ROUNDING_FACTOR * max(error_of(plain[name], true), least),
        )
        for name, true in exact.items()
    }
    return {name: pair for name, pair in found.items() if not pair[0] <= pair[1]}


@pytest.mark.usefixtures("tf32")
@pytest.mark.parametrize("name", TEXT_MODELS)
def test_tf32_is_as_exact_as_the_plain_model_in_tf32(name: str) -> None:
    plain, fused, inputs = pair(name, TEXT, 0.5, layers=1)
    narrow, ours = outcome(plain, inputs), outcome(fused, inputs)
    assert errors(narrow, ours, outcome(plain.double(), inputs), 1e-3) == {}


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_gradients_in_bfloat16_are_those_of_float64(name: str) -> None:
    plain, fused, inputs = pair(name, TEXT, 0.5, layers=1)
    with torch.autocast("cuda", torch.bfloat16):
        narrow, ours = outcome(plain, inputs), outcome(fused, inputs)
    assert errors(narrow, ours, outcome(plain.double(), inputs), 1e-2) == {}


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_the_suites_batch(name: str) -> None:
    """25 sequences of 4096, all layers: each sequence is what it is on its own."""
    if torch.cuda.mem_get_info()[0] < 20e9:
        pytest.skip("less than 20 GB free")
    _, fused, inputs = pair(name, TEXT, 0.3, batch=25)
    with torch.no_grad():
        together = fused(inputs, None)
        alone = torch.cat([fused(row, None) for row in inputs[[0, 12, 24]].split(1)])
    torch.testing.assert_close(together[[0, 12, 24]], alone, rtol=1e-3, atol=1e-4)
    assert all(tensor.isfinite().all() for tensor in outcome(fused, inputs).values())


@pytest.mark.usefixtures("tf32")
def test_a_kernel_that_asks_for_too_much_shared_memory_runs_in_a_form_that_fits() -> None:
    """In TF32 the widest model asks for 250 KB in the usual form, which no GPU of 2026 has."""
    from implementations.kernels.triton import launch

    launch._FITTING.clear()
    _, fused, inputs = pair("seqboat-fused", ENWIK8, 0.5, batch=1, layers=1)
    assert all(tensor.isfinite().all() for tensor in outcome(fused, inputs).values())
    assert max(launch._FITTING.values()) > 0


OVERFLOWS = """
import torch
from implementations.kernels.triton.packing import Packing
active = torch.ones(2, 64, dtype=torch.bool, device="cuda")
Packing.of(active, capacity=96)
torch.cuda.synchronize()
"""


def test_more_active_steps_than_the_capacity_are_told_by_the_device() -> None:
    """In a process of its own, which the assertion ends."""
    run = subprocess.run([sys.executable, "-c", OVERFLOWS], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "device-side assert" in run.stderr
    assert "more than 96 active steps: the capacity" in run.stderr
