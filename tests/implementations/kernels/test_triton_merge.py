"""The end of a layer in one pass against its plain operators."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from implementations.ops.configurator import LatentConfigurator
from implementations.ops.norms import SequenceNorm
from implementations.ops.sma import extract, steps_in_place

from .triton_oracle import DEVICE, check, numbers, poisoned

from implementations.kernels.triton.merge import merge  # isort: skip
from implementations.kernels.triton.norms import RowNorm  # isort: skip
from implementations.kernels.triton.packing import Packing, unpack  # isort: skip

BATCH, LENGTH, DIM = 2, 21, 5


def configurator(temp: float = 0.3) -> LatentConfigurator:
    made = LatentConfigurator(DIM).to(DEVICE, torch.float64)
    torch.nn.init.constant_(made.temp, temp)
    made.act_bias.fill_(0.2)
    return made


@pytest.mark.parametrize("kind", [None, "layernorm", "scalenorm", "rmsnorm"])
@pytest.mark.parametrize("routed", [True, False])
def test_merge(kind: str | None, routed: bool) -> None:
    made = torch.nn.ModuleDict()
    if routed:
        made["configurator"] = configurator()
    if kind is not None:
        made["norm"] = SequenceNorm(kind, DIM).to(DEVICE, torch.float64)
        for parameter in made["norm"].parameters():
            torch.nn.init.normal_(parameter)
    names = [name for name, _ in made.named_parameters()]
    hx, x = numbers(BATCH, LENGTH, DIM + 2 * routed), numbers(BATCH, LENGTH, DIM, seed=2)
    active = torch.ones(BATCH, LENGTH, dtype=torch.bool, device=DEVICE)
    if routed:
        active = made["configurator"](hx[..., :2]).active
    packing = Packing.of(active)
    h = numbers(packing.capacity, DIM, seed=1)

    def plain(made: torch.nn.ModuleDict, hx: Tensor, h: Tensor, x: Tensor) -> Tensor:
        attended = extract(unpack(h, packing, BATCH), steps_in_place(active))
        if routed:
            attended = attended * made["configurator"].probabilities(hx[..., :2])[..., 1:]
        y = F.silu(hx[..., 2 * routed :] + attended + x)
        return y if kind is None else made["norm"](y)

    def fused(made: torch.nn.ModuleDict, hx: Tensor, h: Tensor, x: Tensor) -> Tensor:
        norm = None if kind is None else RowNorm.of(made["norm"], x)
        return merge(hx, h, x, packing, made["configurator"] if routed else None, norm=norm)

    def as_function(run):  # type: ignore[no-untyped-def]
        class Runner(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.made = made

            def forward(self, *args: Tensor) -> Tensor:
                return run(self.made, *args)

        def call(hx: Tensor, h: Tensor, x: Tensor, *parameters: Tensor) -> Tensor:
            values = {f"made.{name}": value for name, value in zip(names, parameters, strict=True)}
            return torch.func.functional_call(Runner(), values, (hx, h, x))

        return call

    check(as_function(plain), as_function(fused), hx, h, x, *made.parameters())


def test_no_active_step() -> None:
    active = torch.zeros(BATCH, LENGTH, dtype=torch.bool, device=DEVICE)
    packing = Packing.of(active)
    hx, x = numbers(BATCH, LENGTH, DIM + 2), numbers(BATCH, LENGTH, DIM, seed=2)
    check(
        lambda hx, h, x: F.silu(hx[..., 2:] + x) + 0 * h.sum(),
        lambda hx, h, x: merge(hx, h, x, packing, configurator()),
        *(hx, numbers(1, DIM, seed=1), x),
    )


def test_a_certain_router_keeps_its_gradient() -> None:
    """p₁ rounds to 1 in float32 from a margin of 17 on; its slope `p₁·p₀` must not vanish with it."""
    made = configurator(temp=0.0).float()
    active = torch.ones(1, 1, dtype=torch.bool, device=DEVICE)
    packing = Packing.of(active)
    hx = torch.tensor([[[0.0, 20.0, 1.0]]], device=DEVICE, requires_grad=True)
    h, x = torch.ones(1, 1, device=DEVICE), torch.ones(1, 1, 1, device=DEVICE)
    with poisoned():
        merge(hx, h, x, packing, made).backward()
    wide = hx.detach().double().requires_grad_()
    p = torch.sigmoid(wide[..., 1:2] - wide[..., :1] - made.act_bias.double())
    F.silu(wide[..., 2:] + p * h + x).backward()
    assert hx.grad is not None
    torch.testing.assert_close(hx.grad.double(), wide.grad, rtol=1e-4, atol=1e-13)
    assert hx.grad[0, 0, 1] > 1e-9


@pytest.mark.parametrize("joint", [True, False])
def test_dropout(joint: bool) -> None:
    """The sum `linear + h` is dropped if joint, else h alone."""
    active = torch.ones(1, 16, dtype=torch.bool, device=DEVICE)
    packing = Packing.of(active)
    hx, h, x = (numbers(1, 16, 8, seed=seed).requires_grad_() for seed in range(3))
    with poisoned():
        y = merge(hx, h[0], x, packing, None, joint_dropout=joint, dropout=0.25)
        grads = torch.autograd.grad(y.sum(), (hx, h, x))
    kept = grads[1] != 0
    assert 12 <= (~kept).sum() <= 52
    scale = kept / 0.75
    leaves = [tensor.detach().requires_grad_() for tensor in (hx, h, x)]
    branches = (leaves[0] + leaves[1]) * scale if joint else leaves[0] + leaves[1] * scale
    plain = F.silu(branches + leaves[2])
    torch.testing.assert_close(y, plain)
    for a, b in zip(grads, torch.autograd.grad(plain.sum(), leaves), strict=True):
        torch.testing.assert_close(a, b)
