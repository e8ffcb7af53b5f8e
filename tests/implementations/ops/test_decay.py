"""Recurrences with a decay a step: the grouped form is the loop, whatever the length and the decays."""

import pytest
import torch
from torch import Tensor

from implementations.ops.decay import GROUP, between, decayed_sums


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def loop(log_decay: Tensor, inputs: Tensor) -> Tensor:
    states = [torch.zeros_like(inputs[..., 0, :])]
    for t in range(inputs.shape[-2]):
        states.append(log_decay[..., t, None].exp() * states[-1] + inputs[..., t, :])
    return torch.stack(states[1:], dim=-2)


@pytest.mark.parametrize("decay", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("length", [1, GROUP - 1, GROUP, GROUP + 1, 5 * GROUP + 3, GROUP**2 + 7])
def test_the_grouped_form_is_the_loop(length: int, decay: float) -> None:
    log_decay, inputs = -decay * random(2, 3, length).square(), random(2, 3, length, 4, seed=1)
    torch.testing.assert_close(decayed_sums(log_decay, inputs), loop(log_decay, inputs))


def test_gradients_of_the_grouped_form() -> None:
    log_decay = -random(1, GROUP + 3).square()
    inputs = random(1, GROUP + 3, 2, seed=1)
    assert torch.autograd.gradcheck(decayed_sums, (log_decay.requires_grad_(), inputs.requires_grad_()))


def test_decays_between_two_steps() -> None:
    log_decay = torch.tensor([-1.0, -2.0, -4.0]).double()
    expected = torch.tensor([[0.0, -torch.inf, -torch.inf], [-2.0, 0.0, -torch.inf], [-6.0, -4.0, 0.0]])
    torch.testing.assert_close(between(log_decay), expected.double().exp())
