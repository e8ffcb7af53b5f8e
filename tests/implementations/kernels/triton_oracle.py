"""Holding a Triton kernel against its plain form: outputs and every gradient, in poisoned memory.

Without a GPU the kernels run in Triton's interpreter, which tests/conftest.py asks for before any test
imports triton; with one they are compiled and run there.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton is not installed: the extra `fused`")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HOLE = 2**40
"""What fills unwritten integers: an index far outside of everything."""


@contextmanager
def poisoned() -> Iterator[None]:
    """Unwritten memory of torch.empty and its kin is NaN, or an index far outside."""

    def spoil(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def poison(*args: Any, **kwargs: Any) -> Tensor:
            made = make(*args, **kwargs)
            if made.is_floating_point():
                return made.fill_(torch.nan)
            return made.fill_(HOLE) if made.dtype == torch.int64 else made

        return poison

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
            patch.setattr(owner, name, spoil(getattr(owner, name)))
        yield


def outcome(run: Callable[..., Tensor], inputs: Iterable[Tensor]) -> list[Tensor]:
    """The output of `run(*inputs)`, and each input's gradient from a fixed random one of the output.

    Zeros where an input has no gradient.
    """
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    output = run(*leaves)
    generator = torch.Generator().manual_seed(5)
    grad = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output)
    grads = torch.autograd.grad(output, leaves, grad, allow_unused=True, materialize_grads=True)
    return [output.detach(), *grads]


def check(
    plain: Callable[..., Tensor],
    fused: Callable[..., Tensor],
    *inputs: Tensor,
    tolerance: float = 1e-9,
) -> None:
    """The same outputs and gradients, in absolute terms or relative to the largest number of each."""
    expected = outcome(plain, inputs)
    with poisoned():
        actual = outcome(fused, inputs)
    for position, (a, b) in enumerate(zip(actual, expected, strict=True)):
        assert a.shape == b.shape
        assert a.isfinite().all(), f"tensor {position}"
        error = (a.double() - b.double()).abs().max().item() if a.numel() else 0.0
        assert error <= tolerance * max(1.0, b.abs().max().item()), f"tensor {position} is off by {error}"


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(DEVICE, dtype)


def with_parameters(module: torch.nn.Module, run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`run(module, x)` as a function of x and of the module's parameters, in their order."""
    names = [name for name, _ in module.named_parameters()]

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        values = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(
            _Runner(module, run), {f"module.{k}": v for k, v in values.items()}, (x,)
        )

    return call


class _Runner(torch.nn.Module):
    def __init__(self, module: torch.nn.Module, run: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module = module
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.module, x)
