"""Reversible residual layers: training holds two states, not the activations of every layer.

Gomez et al., NeurIPS 2017, arXiv 1707.04585. From the outputs of a step its inputs are computed again,
and so are its activations, one step at a time, while the gradient passes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def reversible(
    steps: Sequence[nn.Module], a: Tensor, b: Tensor, padding_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`a, b ← b, a + step(b)` for each step in turn.

    A step is a module `forward(x, padding_mask, memo)` that returns `(y, memo)`. In the forward pass the
    argument memo is None; the memo returned there is passed in when the step is recomputed, so that a
    discrete choice comes out the same from inputs that differ in their last digits.
    """
    parameters = [parameter for step in steps for parameter in _trained(step)]
    apply: Callable[..., tuple[Tensor, Tensor]] = _Reversible.apply
    return apply(steps, padding_mask, a, b, *parameters)


def _trained(step: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in step.parameters() if parameter.requires_grad]


@dataclass(frozen=True)
class _Circumstances:
    """State that a recomputation must restore: the random state, and automatic mixed precision."""

    device: torch.device
    cpu_state: Tensor
    cuda_state: Tensor | None
    autocast: bool
    autocast_dtype: torch.dtype

    @classmethod
    def now(cls, device: torch.device) -> "_Circumstances":
        return cls(
            device,
            torch.get_rng_state(),
            torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            torch.is_autocast_enabled(device.type),
            torch.get_autocast_dtype(device.type),
        )

    @contextmanager
    def again(self) -> Iterator[None]:
        devices = [] if self.cuda_state is None else [self.device]
        with (
            torch.random.fork_rng(devices),
            torch.autocast(self.device.type, enabled=self.autocast, dtype=self.autocast_dtype),
            torch.enable_grad(),
        ):
            torch.set_rng_state(self.cpu_state)
            if self.cuda_state is not None:
                torch.cuda.set_rng_state(self.cuda_state, self.device)
            yield


class _Reversible(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        steps: Sequence[nn.Module],
        padding_mask: Tensor | None,
        a: Tensor,
        b: Tensor,
        *parameters: nn.Parameter,
    ) -> tuple[Tensor, Tensor]:
        runs = []
        for step in steps:
            circumstances = _Circumstances.now(b.device)
            y, memo = step(b, padding_mask, None)
            a, b = b, a + y
            runs.append((step, circumstances, memo))
        ctx.runs = runs
        ctx.padding_mask = padding_mask
        ctx.save_for_backward(a, b)
        return a, b

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (a, b), (da, db) = ctx.saved_tensors, gradients
        of_parameters: list[Tensor | None] = []
        for step, circumstances, memo in reversed(ctx.runs):
            x = a.detach().requires_grad_()
            with circumstances.again():
                # A view: hooks on the inputs of modules (a FLOP counter's) can't bear a leaf in here.
                y, _ = step(x.view_as(x), ctx.padding_mask, memo)
            dx, *own = torch.autograd.grad(y, [x, *_trained(step)], db.to(y.dtype), allow_unused=True)
            a, b = b - y.detach(), a
            da, db = db, da + dx
            of_parameters = [*own, *of_parameters]
        return (None, None, da, db, *of_parameters)
