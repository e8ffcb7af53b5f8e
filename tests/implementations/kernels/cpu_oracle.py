"""Holding a fused form against its plain one: outputs and every gradient, with unwritten memory poisoned."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

SAMPLES = 8


@contextmanager
def poisoned() -> Iterator[None]:
    """What torch.empty and its kin give is NaN until it is written."""

    def spoil(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def poison(*args: Any, **kwargs: Any) -> Tensor:
            made = make(*args, **kwargs)
            return made.fill_(torch.nan) if made.is_floating_point() or made.is_complex() else made

        return poison

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
            patch.setattr(owner, name, spoil(getattr(owner, name)))
        yield


def outcome(run: Callable[..., Tensor], *inputs: Tensor, seed: int = 5) -> list[Tensor]:
    """The output of `run(*inputs)`, and each input's gradient from a random one of the output."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    output = run(*leaves)
    generator = torch.Generator().manual_seed(seed)
    grad = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output)
    return [
        output.detach(),
        *torch.autograd.grad(output, leaves, grad, allow_unused=True, materialize_grads=True),
    ]


def distance(a: Tensor, b: Tensor) -> float:
    """`‖a − b‖ / ‖b‖`; absolute where b is nearly zero."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm().clamp(min=1e-3))


def check(
    plain: Callable[..., Tensor], fused: Callable[..., Tensor], *inputs: Tensor, bound: float = 1e-9
) -> None:
    """The same output and the same gradients, in float64."""
    expected = outcome(plain, *inputs)
    with poisoned():
        found = outcome(fused, *inputs)
    for position, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert distance(ours, theirs) <= bound, (
            f"output {position}" if position == 0 else f"gradient {position}"
        )


def check_digits(plain: Callable[..., Tensor], fused: Callable[..., Tensor], *inputs: Tensor) -> None:
    """In float32: outputs to 1e-5, gradients at most three times as far from float64 as the plain form's."""
    excess = excess_of_errors(plain, fused, *inputs)
    assert (excess <= 1.0).all(), excess


def excess_of_errors(plain: Callable[..., Tensor], fused: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Errors in float32 over what `check_digits` allows: of the output and each gradient, `(1 + inputs,)`.

    Inputs are float64. Errors are those of several gradients of the output together, relative to the norm of
    all of them: a gradient of one number may cancel, and then its own relative error says nothing.
    """
    singles = [tensor.float() for tensor in inputs]
    size, ours, theirs = (torch.zeros(len(inputs) + 1, dtype=torch.float64) for _ in range(3))
    for seed in range(SAMPLES):
        exact = outcome(plain, *inputs, seed=seed)
        size += squared_norms(exact)
        for errors, run in ((theirs, plain), (ours, fused)):
            found = outcome(run, *singles, seed=seed)
            errors += squared_norms([a.double() - b for a, b in zip(found, exact, strict=True)])
    size = size.sqrt().clamp(min=1e-3)
    ours, theirs = ours.sqrt() / size, theirs.sqrt() / size
    allowed = (3.0 * theirs).clamp(min=4.0 * torch.finfo(torch.float32).eps)
    allowed[0] = 1e-5
    return ours / allowed


def squared_norms(tensors: list[Tensor]) -> Tensor:
    """`(tensors,)`."""
    return torch.stack([tensor.detach().square().sum() for tensor in tensors])


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
