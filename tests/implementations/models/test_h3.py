"""H3: its two state spaces, the products between them, causality, heads and hyper-parameters."""

from typing import Any

import pytest
import torch
from torch import Tensor

from implementations.models.h3 import H3, DiagonalKernel, H3Config, ShiftKernel
from implementations.ops.ssm import as_complex
from implementations.registry import find
from implementations.task import Task

TINY: dict[str, Any] = {"layers": 2, "dim": 6, "ffn": 10, "state_dim": 8}
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


def make_layer(head_dim: int, state_dim: int = 8) -> H3:
    torch.manual_seed(0)
    layer = H3(6, state_dim, head_dim, dt_min=0.02).double()
    torch.nn.init.normal_(layer.shift.B)
    return layer


@pytest.mark.parametrize("length", [3, 8, 20])
def test_shift_kernel_is_a_correlation(length: int) -> None:
    torch.manual_seed(0)
    kernel = ShiftKernel(6, 8).double()
    torch.testing.assert_close(kernel(length), kernel.C[0, :, :length])
    torch.nn.init.normal_(kernel.B)
    B, C = kernel.B, kernel.C[0]
    taps = [(C[:, lag:] * B[:, : 8 - lag]).sum(dim=1) for lag in range(min(8, length))]
    torch.testing.assert_close(kernel(length), torch.stack(taps, dim=1))


def test_diagonal_kernel_is_the_recurrence() -> None:
    torch.manual_seed(0)
    kernel = DiagonalKernel(6, 8, dt_min=0.02).double()
    torch.nn.init.normal_(kernel.B)
    step = torch.complex(-kernel.inv_A_real.exp(), kernel.A_imag) * kernel.log_dt.exp()[:, None]
    decay = (1 + step / 2) / (1 - step / 2)
    state = kernel.log_dt.exp()[:, None] / (1 - step / 2) * as_complex(kernel.B)
    response = []
    for _ in range(20):
        response.append(2 * (as_complex(kernel.C[0]) * state).sum(dim=-1).real)
        state = decay * state
    torch.testing.assert_close(kernel(20), torch.stack(response, dim=-1))


def respond(kernel: Tensor, x: Tensor) -> Tensor:
    """One channel's causal response, from the definition."""
    return torch.stack(
        [
            sum((kernel[lag] * x[t - lag] for lag in range(min(t + 1, len(kernel)))), x.new_zeros(()))
            for t in range(len(x))
        ]
    )


@pytest.mark.parametrize("head_dim", [1, 2, 3])
def test_layer_is_its_definition(head_dim: int) -> None:
    layer = make_layer(head_dim)
    u = torch.randn(1, 11, 6, dtype=torch.float64)
    q, k, v = (project(u)[0].T for project in (layer.q_proj, layer.k_proj, layer.v_proj))
    shift, diagonal = layer.shift(11), layer.diagonal(11)
    k = torch.stack([respond(shift[c], k[c]) + layer.shift_D[c] * k[c] for c in range(6)])
    y = torch.zeros(6, 11, dtype=torch.float64)
    heads = 6 // head_dim
    for head in range(heads):
        for i in range(head_dim):
            for j in range(head_dim):
                kv = k[head * head_dim + i] * v[head * head_dim + j]
                memory = respond(diagonal[head], kv) + layer.D[head] * kv
                # Channels come in by head, and go out by their place in it.
                y[j * heads + head] += q[head * head_dim + i] * memory
    torch.testing.assert_close(layer(u)[0], layer.output_linear(y.T))


@pytest.mark.parametrize("head_dim", [1, 3])
@pytest.mark.parametrize("step", [0, 7, 16])
def test_layer_is_causal(head_dim: int, step: int) -> None:
    u = torch.randn(1, 17, 6, dtype=torch.float64, requires_grad=True)
    make_layer(head_dim)(u)[0, step].sum().backward()
    assert u.grad is not None
    reach = u.grad[0].abs().sum(dim=-1)
    assert (reach[step + 1 :] < 1e-12).all()
    assert (reach[: step + 1] > 1e-9).all()


@pytest.mark.parametrize("head_dim", [1, 2])
def test_gradients_of_the_layer(head_dim: int) -> None:
    layer = make_layer(head_dim, state_dim=4)
    u = torch.randn(1, 6, 6, dtype=torch.float64, requires_grad=True)
    wanted = (u, layer.shift.C, layer.shift.B, layer.shift_D, layer.D, *layer.diagonal.parameters())
    assert torch.autograd.gradcheck(lambda u, *_: layer(u), wanted)


def test_a_head_dim_that_does_not_divide_the_width_is_refused() -> None:
    with pytest.raises(ValueError, match="head_dim is 4: it must divide the width, 6"):
        H3(6, head_dim=4)


def test_hyperparameters_are_in_the_shape_of_s4_and_say_so() -> None:
    h3, s4 = find("h3"), find("s4")
    assert h3.published.keys() == s4.published.keys()
    for task in h3.published:
        config, other = H3Config(**h3.hyperparameters(task)), s4.hyperparameters(task)
        assert (config.layers, config.dim, config.norm) == (other["layers"], other["dim"], other["norm"])
        assert config.ffn == 4 * config.dim
        assert "no public configuration" in h3.unpublished[task]
        assert H3Config(**h3.hyperparameters(task, "matched")).ffn == 512
