"""The Triton kernels on a GPU, at the sizes they are for: what the interpreter cannot show."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from implementations.task import Task

from .pairs import BATCH, LENGTH, SPEECH, TEXT, error_of, outcome, pair

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("seqboat-fused", TEXT),
        ("seqboat-full-fused", TEXT),
        ("seqboat-fused", SPEECH),
        ("mega-chunk-fused", TEXT),
    ],
)
def test_float32_is_as_exact_as_the_plain_model(name: str, task: Task, rate: float) -> None:
    """One layer, so that no step flips: a gradient's error is at most three times that of the plain form."""
    plain, fused, inputs = pair(name, task, rate, layers=1)
    narrow, ours = outcome(plain, inputs), outcome(fused, inputs)
    exact = outcome(plain.double(), inputs.double() if task.input == "reals" else inputs)
    assert ours.keys() == exact.keys()
    for key, true in exact.items():
        error, allowed = (error_of(side[key], true) for side in (ours, narrow))
        assert error <= 3 * max(allowed, 1e-6), key


def test_bfloat16_trains() -> None:
    plain, fused, inputs = pair("seqboat-fused", TEXT, 0.5, layers=1)
    with torch.autocast("cuda", torch.bfloat16):
        ours = outcome(fused, inputs)
    exact = outcome(plain, inputs)
    assert all(tensor.isfinite().all() for tensor in ours.values())
    assert error_of(ours["logits"], exact["logits"]) < 0.05


def layer_step(model: nn.Module, x: Tensor, capacity: float | None) -> Callable[[], tuple[Tensor, Tensor]]:
    from implementations.fused.seqboat_triton import seqboat_layer

    layer = next(module for module in model.modules() if hasattr(module, "backend"))

    def step() -> tuple[Tensor, Tensor]:
        leaf = x.detach().requires_grad_()
        y = seqboat_layer(layer, leaf, capacity=capacity)
        (grad,) = torch.autograd.grad(y.square().sum(), leaf)
        return y.detach(), grad

    return step


def test_a_capacity_waits_for_nothing_and_fits_a_cuda_graph() -> None:
    _, fused, _ = pair("seqboat-fused", TEXT, 0.5, layers=1)
    x = torch.randn(BATCH, LENGTH, 128, device="cuda")
    expected = layer_step(fused, x, None)()
    step = layer_step(fused, x, 1.0)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    torch.cuda.synchronize()
    for a, b in zip(captured, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_offsets_beyond_two_to_the_31() -> None:
    """A batch of more than 2³¹ numbers: the last row must be what it is on its own."""
    from implementations.kernels.triton.ema import damped_ema
    from implementations.ops.ema import DampedEMA

    batch, length, dim = 33, 2**16, 1024
    if torch.cuda.mem_get_info()[0] < 40e9:
        pytest.skip("less than 40 GB free")
    ema = DampedEMA(dim, 2, truncation=100).cuda()
    x = torch.zeros(batch, length, dim, device="cuda")
    x[-1] = torch.randn(length, dim, device="cuda")
    with torch.no_grad():
        torch.testing.assert_close(damped_ema(ema, x)[-1:], damped_ema(ema, x[-1:].clone()))
