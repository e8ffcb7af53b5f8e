"""S4D: both discretisations against the recurrence, the LegS and lin states, heads and hyper-parameters."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from implementations.models.s4d import DiagonalKernel, S4DConfig, StandaloneS4D, diagonal_init
from implementations.ops.ssm import as_complex, nplr_legs
from implementations.registry import find
from implementations.task import Task

TINY: dict[str, Any] = {"layers": 2, "dim": 6, "state_dim": 8}
TASKS = {
    "text": Task("text", length=40, classes=3, vocabulary=20),
    "image": Task("image", length=40, classes=3, input="reals"),
    "retrieval": Task("retrieval", length=40, classes=2, head="two-tower", vocabulary=20),
    "enwik8": Task("enwik8", length=40, classes=20, head="language-model", vocabulary=20),
}


def inputs_for(task: Task) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 2, task.length) if task.head == "two-tower" else (2, task.length)
    if task.input == "reals":
        return torch.rand(shape, generator=generator)
    return torch.randint(1, task.vocabulary, shape, generator=generator)


@pytest.mark.parametrize("discretisation", ["zoh", "bilinear"])
@pytest.mark.parametrize("n_ssm", [None, 1, 2])
@pytest.mark.parametrize("dt_transform", ["softplus", "exp"])
def test_kernel_is_the_recurrence(discretisation: Any, n_ssm: int | None, dt_transform: Any) -> None:
    torch.manual_seed(0)
    kernel = DiagonalKernel(
        6, 8, 2, discretisation=discretisation, n_ssm=n_ssm, dt_transform=dt_transform, dt_min=0.01
    ).double()
    torch.nn.init.normal_(kernel.B)
    torch.nn.init.normal_(kernel.A_real)
    channel_ssm = torch.arange(6) % len(kernel.A_real)
    A = torch.complex(-kernel.A_real.exp(), -kernel.A_imag)[channel_ssm]
    dt = kernel.inv_dt.exp() if dt_transform == "exp" else torch.log(1 + kernel.inv_dt.exp())
    if discretisation == "zoh":
        decay, gain = (A * dt).exp(), ((A * dt).exp() - 1) / A
    else:
        decay, gain = (1 + A * dt / 2) / (1 - A * dt / 2), dt / (1 - A * dt / 2)
    state = gain * as_complex(kernel.B[0])[channel_ssm]
    response = []
    for _ in range(20):
        response.append(2 * (as_complex(kernel.C) * state).sum(dim=-1).real)
        state = decay * state
    torch.testing.assert_close(kernel(20), torch.stack(response, dim=-1))


def test_kernel_of_any_length_is_a_prefix() -> None:
    kernel = DiagonalKernel(6, 8).double()
    torch.testing.assert_close(kernel(7), kernel(90)[..., :7])


def test_states_of_legs_are_s4s_without_the_low_rank_term() -> None:
    A, B = diagonal_init(16, "legs")
    assert torch.equal(A, nplr_legs(16).A)
    assert B.imag.abs().max() <= 2
    assert torch.equal(B.real, nplr_legs(16).B.real)


def test_states_of_lin_are_fourier_modes() -> None:
    A, B = diagonal_init(8, "lin")
    torch.testing.assert_close(
        A, torch.complex(torch.full((4,), -0.5), -math.pi * torch.arange(4)).to(A.dtype)
    )
    assert torch.equal(B, torch.ones_like(B))


def test_gradients_of_the_kernel() -> None:
    torch.manual_seed(0)
    kernel = DiagonalKernel(4, 6, 2, n_ssm=2, dt_min=0.01).double()
    assert torch.autograd.gradcheck(lambda *_: kernel(11), tuple(kernel.parameters()))


@pytest.mark.parametrize("step", [0, 7, 16])
def test_standalone_is_causal(step: int) -> None:
    torch.manual_seed(0)
    layer = StandaloneS4D(6, 8).double()
    u = torch.randn(1, 17, 6, dtype=torch.float64, requires_grad=True)
    layer(u)[0, step].sum().backward()
    assert u.grad is not None
    reach = u.grad[0].abs().sum(dim=-1)
    assert (reach[step + 1 :] < 1e-12).all()
    assert (reach[: step + 1] > 1e-9).all()


def test_shapes_are_those_of_s4() -> None:
    s4, s4d = find("s4"), find("s4d-legs")
    assert s4d.published.keys() == s4.published.keys()
    for task in s4d.published:
        values = s4d.hyperparameters(task)
        assert S4DConfig(**values).init == "legs"
        assert values == s4.hyperparameters(task) | {"init": "legs"}
        assert S4DConfig(**s4d.hyperparameters(task, "matched")).dim == 128
