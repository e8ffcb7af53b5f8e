"""Norms with time or channels innermost, against the plain ones."""

import copy

import pytest
import torch
from torch.func import functional_call

from implementations.kernels.cpu.norms import channel_norm, row_norm
from implementations.kernels.cpu.tiles import time_innermost, time_outermost
from implementations.ops.norms import SequenceNorm

from .cpu_oracle import check, check_digits, numbers

pytestmark = pytest.mark.usefixtures("cpu_kernels")

KINDS = [
    ("layernorm", True),
    ("layernorm", False),
    ("batchnorm", True),
    ("scalenorm", True),
    ("rmsnorm", True),
]


class Call(torch.nn.Module):
    """A form of a norm as a module with its parameters."""

    def __init__(self, norm: SequenceNorm, run) -> None:
        super().__init__()
        self.norm, self.run = norm, run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(self.norm, x)


def compare(kind: str, affine: bool, run, check, length: int = 11, plain=lambda norm, x: norm(x)) -> None:
    torch.manual_seed(0)
    norm = SequenceNorm(kind, 6, affine).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    names = [f"norm.{name}" for name, _ in norm.named_parameters()]

    def form(run):
        call = Call(norm, run)
        return lambda x, *values: functional_call(call, dict(zip(names, values, strict=True)), (x,))

    check(form(plain), form(run), numbers(3, length, 6, scale=2.0), *norm.parameters())


@pytest.mark.parametrize("length", [11, 512, 1100])
@pytest.mark.parametrize(("kind", "affine"), KINDS)
def test_time_innermost(kind: str, affine: bool, length: int) -> None:
    """Rows shorter and longer than what is computed at a time."""
    compare(
        kind,
        affine,
        lambda norm, x: time_outermost(channel_norm(norm, time_innermost(x))),
        check,
        length,
    )


@pytest.mark.parametrize(("kind", "affine"), KINDS)
def test_of_silu(kind: str, affine: bool) -> None:
    def plain(norm: SequenceNorm, x: torch.Tensor) -> torch.Tensor:
        return norm(torch.nn.functional.silu(x))

    def fused(norm: SequenceNorm, x: torch.Tensor) -> torch.Tensor:
        return time_outermost(channel_norm(norm, time_innermost(x), activated=True))

    compare(kind, affine, fused, check, 520, plain)


@pytest.mark.parametrize(("kind", "affine"), KINDS)
def test_channels_innermost(kind: str, affine: bool) -> None:
    compare(kind, affine, row_norm, check)


@pytest.mark.parametrize("kind", ["layernorm", "scalenorm", "rmsnorm"])
def test_digits_of_float32(kind: str) -> None:
    compare(kind, True, lambda norm, x: time_outermost(channel_norm(norm, time_innermost(x))), check_digits)


def test_running_statistics_are_the_plain_ones() -> None:
    plain, fused = (SequenceNorm("batchnorm", 6) for _ in range(2))
    x = numbers(3, 11, 6).float()
    plain(x)
    channel_norm(fused, time_innermost(x))
    for ours, theirs in zip(fused.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(time_outermost(channel_norm(fused.eval(), time_innermost(x))), plain.eval()(x))


@pytest.mark.parametrize("kind", ["scalenorm", "rmsnorm"])
def test_a_weight_of_zero_has_gradients(kind: str) -> None:
    norm = SequenceNorm(kind, 6).double()
    for parameter in norm.parameters():
        torch.nn.init.zeros_(parameter)
    x = numbers(2, 5, 6).requires_grad_()
    grads = torch.autograd.grad(row_norm(norm, x).sum(), [x, *norm.parameters()])
    assert all(torch.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "affine"), KINDS)
@pytest.mark.parametrize("innermost", ["time", "channels"])
def test_weights_in_half_precision(innermost: str, kind: str, affine: bool, training: bool) -> None:
    """On states in float32, as the fused forms of a model in half precision have them."""
    torch.manual_seed(0)
    half = SequenceNorm(kind, 6, affine).bfloat16().train(training)
    for tensor in (*half.parameters(), *(b for b in half.buffers() if b.is_floating_point())):
        torch.nn.init.uniform_(tensor, 0.5, 2)
    wide = copy.deepcopy(half).float()
    results = []
    for norm in (half, wide):
        x = numbers(3, 11, 6).float().requires_grad_()
        y = (
            row_norm(norm, x)
            if innermost == "channels"
            else time_outermost(channel_norm(norm, time_innermost(x)))
        )
        y.square().sum().backward()
        results.append([y, x.grad])
    torch.testing.assert_close(results[0], results[1])
    for ours, theirs in zip(half.parameters(), wide.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad.bfloat16())
    for ours, theirs in zip(half.buffers(), wide.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-2, atol=1e-2)
