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
    """In float32 outputs to 1e-5, and gradients at most three times as far from float64 as the plain form's.

    Inputs are float64. Errors are those of several gradients of the output together, since a single number's
    may cancel by luck.
    """
    singles = [tensor.float() for tensor in inputs]
    ours, theirs = (torch.zeros(len(inputs) + 1, dtype=torch.float64) for _ in range(2))
    for seed in range(SAMPLES):
        exact = outcome(plain, *inputs, seed=seed)
        for errors, run in ((theirs, plain), (ours, fused)):
            found = outcome(run, *singles, seed=seed)
            errors += torch.tensor([distance(a, b) ** 2 / SAMPLES for a, b in zip(found, exact, strict=True)])
    ours, theirs = ours.sqrt(), theirs.sqrt()
    assert ours[0] <= 1e-5
    beyond = ours > (3.0 * theirs).clamp(min=4.0 * torch.finfo(torch.float32).eps)
    assert not beyond.any(), list(zip(beyond.nonzero().tolist(), ours[beyond], theirs[beyond], strict=True))


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
