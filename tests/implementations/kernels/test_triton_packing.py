"""Packed active steps against compress and extract."""

import pytest
import torch
from torch import Tensor

from implementations.ops.sma import choose_steps, compress

from .triton_oracle import DEVICE, check, numbers, poisoned

from implementations.kernels.triton.packing import Packing, pack, unpack  # isort: skip


def pattern(name: str) -> Tensor:
    """`(rows, length)` boolean."""
    active = torch.rand(3, 19, generator=torch.Generator().manual_seed(3)) < 0.4
    if name == "one row empty":
        active[1] = False
    elif name == "none":
        active[:] = False
    elif name == "all":
        active[:] = True
    elif name == "one row full":
        active[2] = True
    elif name == "one step":
        active = active[:1, :1] | True
    return active.to(DEVICE)


PATTERNS = ["some", "one row empty", "none", "all", "one row full", "one step"]


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("spare", [None, 5])
def test_pack_and_unpack(name: str, spare: int | None) -> None:
    active = pattern(name)
    x = numbers(*active.shape, 7)
    capacity = None if spare is None else int(active.sum()) + spare
    with poisoned():
        packing = Packing.of(active, capacity=capacity)
    count = int(active.sum())
    assert packing.capacity == (max(16, -(-count // 16) * 16) if capacity is None else capacity)

    def padded(x: Tensor) -> Tensor:
        return torch.cat([x[active], x.new_zeros(packing.capacity - count, 7)])

    check(padded, lambda x: pack(x, packing), x)
    check(
        lambda h: torch.zeros_like(x).masked_scatter(active.unsqueeze(-1), h[:count]),
        lambda h: unpack(h, packing, len(active)),
        numbers(packing.capacity, 7, seed=1),
    )


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("dense", [1.0, 0.5])
def test_where_steps_stand(name: str, dense: float) -> None:
    active = pattern(name)
    with poisoned():
        packing = Packing.of(active, dense)
    steps = choose_steps(active, dense)
    memory = torch.arange(steps.positions.shape[1], device=DEVICE).expand_as(steps.positions)
    count = int(active.sum())
    rows = torch.arange(len(active), device=DEVICE).unsqueeze(-1).expand_as(memory)
    for mine, theirs in ((packing.place, memory), (packing.time, steps.positions), (packing.row, rows)):
        torch.testing.assert_close(mine[:count], theirs[steps.valid])
    torch.testing.assert_close(packing.counts, steps.valid.sum(dim=1))


def test_more_active_steps_than_the_capacity_are_an_error() -> None:
    active = pattern("some")
    if DEVICE.type == "cuda":
        pytest.skip("the device's assertion ends the process")
    with pytest.raises(RuntimeError, match="capacity"):
        Packing.of(active, capacity=int(active.sum()) - 1)


def test_packed_rows_are_those_of_the_working_memory() -> None:
    active = pattern("some")
    x = numbers(*active.shape, 4)
    steps = choose_steps(active)
    count = int(active.sum())
    torch.testing.assert_close(pack(x, Packing.of(active))[:count], compress(x, steps)[steps.valid])
