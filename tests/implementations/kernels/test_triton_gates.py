"""Queries, keys, values and gates against their plain operators."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from implementations.ops.rotary import rotate

from .triton_oracle import DEVICE, check, numbers, poisoned

from implementations.kernels.triton.gates import gates  # isort: skip
from implementations.kernels.triton.packing import Packing  # isort: skip


def joined(base: Tensor, gamma: Tensor, beta: Tensor, positions: Tensor | None) -> Tensor:
    """q, k, r, v side by side."""
    dim = gamma.shape[1]
    hidden = (base.shape[1] - dim) // 2
    z, r, v = F.silu(base).split([dim, hidden, hidden], dim=-1)
    q, k = (z.unsqueeze(-2) * gamma + beta).unbind(dim=-2)
    if positions is not None:
        q, k = (rotate(x[None], positions[None])[0] for x in (q, k))
    return torch.cat([q, k, r, v], dim=-1)


@pytest.mark.parametrize(("dim", "hidden"), [(6, 10), (30, 120), (1, 3)])
@pytest.mark.parametrize("steps", [1, 37])
def test_gates(dim: int, hidden: int, steps: int) -> None:
    packing = Packing.of(torch.ones(1, steps, dtype=torch.bool, device=DEVICE))
    check(
        lambda *args: joined(*args, None),
        lambda *args: torch.cat(gates(*args, packing), dim=-1),
        numbers(steps, dim + 2 * hidden),
        numbers(2, dim, seed=1),
        numbers(2, dim, seed=2),
    )


def test_rotary_turns_by_the_original_positions() -> None:
    active = (torch.arange(90) % 3 == 1).view(2, 45).to(DEVICE)
    packing = Packing.of(active)
    check(
        lambda *args: joined(*args, active.nonzero()[:, 1]),
        lambda *args: torch.cat(gates(*args, packing, rotary_length=45), dim=-1),
        numbers(30, 8 + 2 * 4),
        numbers(2, 8, seed=1),
        numbers(2, 8, seed=2),
    )


def test_dead_steps_have_finite_numbers() -> None:
    with poisoned():
        packing = Packing.of(torch.ones(1, 3, dtype=torch.bool, device=DEVICE), capacity=9)
        base = numbers(9, 8 + 2 * 4)
        q, k, r, v = gates(base, numbers(2, 8), numbers(2, 8), packing, rotary_length=3)
    assert all(x.isfinite().all() for x in (q, k, r, v))


def test_dropout_of_the_values_alone() -> None:
    packing = Packing.of(torch.ones(1, 20, dtype=torch.bool, device=DEVICE))
    base, gamma = numbers(20, 6 + 2 * 10).requires_grad_(), numbers(2, 6)
    with poisoned():
        q, k, r, v = gates(base, gamma, gamma, packing, dropout=0.25)
        (grad,) = torch.autograd.grad(v.sum(), base)
    silu = F.silu(base.detach())
    torch.testing.assert_close(torch.cat([q, k, r], dim=-1), joined(base, gamma, gamma, None)[:, :22])
    kept = v != 0
    assert 20 <= (~kept).sum() <= 80
    torch.testing.assert_close(v[kept], silu[:, 16:][kept] / 0.75)
    assert (grad[:, :16] == 0).all()
    assert ((grad[:, 16:] != 0) == kept).all()
