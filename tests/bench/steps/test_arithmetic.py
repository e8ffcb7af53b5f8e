"""What a step computes, counted; what can't be counted is not counted silently."""

import msgspec
import pytest
import torch

from bench.probes import ceiling
from bench.probes.operators import WHOLE_STEP, OperatorCosts
from bench.steps import arithmetic
from bench.steps.step import Step
from bench.suites import reading as suites

CASE = msgspec.structs.replace(
    suites.load("ci").cases("cpu")[0], activation=None, length=64, hyperparameters="small"
)


@pytest.fixture
def step(monkeypatch):
    monkeypatch.setitem(ceiling.SIZES, "cpu", 32)
    made = Step(CASE, "cpu")
    made()
    return made


def test_products_are_counted_forward_and_backward(step):
    before = arithmetic.arithmetic_of(step)
    step.model = torch.nn.Sequential(step.model)  # The same again, with one more product of known size.
    more = torch.nn.Linear(2, 512, bias=False)
    step.model.forward = lambda inputs, lengths: more(step.model[0](inputs, lengths))[:, :2]
    found = arithmetic.arithmetic_of(step)
    rows = CASE.batch
    products = 3 * 2 * rows * 2 * 512  # forward, and a gradient of each factor
    assert 0 <= found.flops - before.flops - products <= 10 * 512 * 2
    assert (found.unavailable, found.uncounted) == (None, [])
    assert found.ceiling.flops_per_second > 0
    assert found.ceiling.matrix == "32 × 32, fp32"


def test_an_operator_without_a_formula_is_named(step):
    @torch.library.custom_op("someone::scan", mutates_args=())
    def scan(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    forward = step.model.forward
    step.model.forward = lambda inputs, lengths: forward(inputs, lengths) + scan(torch.ones(2))
    assert arithmetic.arithmetic_of(step).uncounted == ["someone::scan"]


def test_what_a_triton_kernel_computes_is_not_counted(step):
    triton = pytest.importorskip("triton")

    @triton.jit
    def nothing():
        pass

    forward = step.model.forward

    def with_kernel(inputs, lengths):
        if torch.cuda.is_available() or triton.knobs.runtime.interpret:
            nothing[(1,)]()
        return forward(inputs, lengths)

    step.model.forward = with_kernel
    found = arithmetic.arithmetic_of(step)
    assert (found.flops, found.unavailable) == (None, arithmetic.TRITON)


def test_our_triton_kernels_tell_what_they_compute(monkeypatch):
    """Of the plain form's FLOPs, all products are among them, forward and backward."""
    pytest.importorskip("triton")
    from implementations.kernels.triton.work import counted

    monkeypatch.setitem(ceiling.SIZES, "cpu", 32)
    changes = {
        "implementation": "seqboat-fused(layers=1, dim=8, states=2)",
        "backend": "triton",
        "length": 16,
        "batch": 1,
    }
    case = msgspec.structs.replace(CASE, **changes)
    step = Step(case, "cpu")
    step()
    launches = []
    with counted(lambda name, work: launches.append((name, work.flops)), run=True):
        step()
    found = arithmetic.arithmetic_of(step)
    assert (found.unavailable, found.uncounted) == (None, [])
    told = dict(launches)
    assert min(told[f"{name}_kernel"] for name in ("average", "attention", "scores_backward")) > 0
    torch_alone = OperatorCosts(lambda _: WHOLE_STEP)
    with torch_alone:
        step()
    assert found.flops == torch_alone.flops[WHOLE_STEP] + sum(flops for _, flops in launches)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_ceiling_without_room_is_none(step, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(arithmetic, "product_ceiling", full)
    found = arithmetic.arithmetic_of(step)
    assert found.ceiling is None
    assert found.flops
