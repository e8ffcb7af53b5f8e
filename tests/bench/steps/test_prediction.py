"""Which form is predicted for a GPU: the one that would run there. Tensors without values play its own."""

import msgspec
import pytest
import torch

from bench.steps import prediction
from bench.steps.step import set_matmul_precision
from bench.suites import reading as suites
from implementations.kernels import libraries
from implementations.kernels.triton import trial
from implementations.kernels.triton.work import counted

CUDA = torch.device("cuda:0")
CASE = msgspec.structs.replace(
    suites.load("ci").cases("cpu")[0],
    activation=0.5,
    backend="auto",
    batch=2,
    hyperparameters="small",
    length=64,
    phase="forward",
)


@pytest.fixture(autouse=True)
def nothing_is_tried_out(monkeypatch):
    """A trial on tensors without values fails, whatever the machine has."""
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(trial, "failure", lambda device: pytest.fail("a kernel was tried out"))
    yield
    set_matmul_precision("fp32")


@pytest.mark.parametrize(
    ("name", "precision"),
    [("seqboat-fused", "fp32"), ("mega-chunk-fused", "fp32"), ("mamba2", "tf32"), ("gated-deltanet", "tf32")],
)
def test_the_form_that_is_predicted_is_the_one_that_runs_on_a_gpu(monkeypatch, name, precision):
    pytest.importorskip("triton", reason="triton is not installed: the extra `fused`")
    monkeypatch.setattr(libraries, "_is_installed", lambda module: True)
    case = msgspec.structs.replace(CASE, implementation=name, precision=precision)
    step = prediction._built(case)
    with prediction._on_shapes(case, step, CUDA):
        assert (step.backend, step.why_plain) == ("triton", None)


def test_what_other_libraries_allocate_is_not_predicted():
    x = torch.zeros(1)
    with counted(lambda *_: None):
        with pytest.raises(NotImplementedError, match="the kernels of Mamba-2 do not tell"):
            libraries.ssd(x, x, x, x, x, 1)
        with pytest.raises(NotImplementedError, match="the kernels of Gated DeltaNet do not tell"):
            libraries.gated_delta_rule(x, x, x, x, x)
