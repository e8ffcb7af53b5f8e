import math

import pytest
import torch

from implementations.ops.configurator import LatentConfigurator
from implementations.ops.sma import choose_steps, sparse_modular_activation


def test_the_likelier_option_decides_and_a_tie_is_inactive() -> None:
    configurator = LatentConfigurator(16)
    logits = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]])
    padding = torch.tensor([[False, False, False, True]])
    active, _ = configurator(logits, padding)
    assert active.tolist() == [[True, False, False, False]]
    assert configurator.activation_rate() == pytest.approx(1 / 3)
    configurator(logits)
    assert configurator.activation_rate() == pytest.approx(2 / 4)


def test_probabilities_have_the_temperature_and_the_bias() -> None:
    configurator = LatentConfigurator(16, temperature_scale=0.5)  # temperature 2
    configurator.act_bias.fill_(0.25)
    logits = torch.tensor([[[0.5, 1.5]]])
    _, confidence = configurator(logits)
    assert confidence.item() == pytest.approx(1 / (1 + math.exp(-(1.5 - 0.75) / 2)))
    active, _ = configurator(torch.tensor([[[0.5, 0.75]]]))
    assert not active.item()


def test_the_gradient_to_the_router_flows_through_the_confidence_only() -> None:
    torch.manual_seed(0)
    configurator = LatentConfigurator(9, temperature_scale=0.4).double()
    logits = torch.randn(2, 10, 2, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 10, 3, dtype=torch.float64)
    active, p1 = configurator(logits)
    y = sparse_modular_activation(x, choose_steps(active), p1, lambda m, _: m)
    cotangent = torch.randn_like(y)
    (y * cotangent).sum().backward()
    slope = p1 * (1 - p1) / configurator.temp.exp() * active
    through_confidence = (x * cotangent).sum(-1) * slope
    torch.testing.assert_close(logits.grad[..., 1], through_confidence.detach())
    torch.testing.assert_close(logits.grad[..., 0], -through_confidence.detach())
    margin = (logits[..., 1] - logits[..., 0]).detach()
    torch.testing.assert_close(configurator.temp.grad.sum(), -(through_confidence * margin).sum().detach())


def test_margins_decide_as_the_forward_does() -> None:
    torch.manual_seed(1)
    configurator = LatentConfigurator(8)
    configurator.act_bias.fill_(0.3)
    logits = torch.randn(3, 20, 2)
    padding = torch.arange(20) >= torch.tensor([20, 13, 4])[:, None]
    active, _ = configurator(logits, padding)
    margins = configurator.margins(logits, padding)
    assert torch.equal(margins > configurator.act_bias, active[~padding])


def test_the_threshold_keeps_its_precision() -> None:
    configurator = LatentConfigurator(8)
    configurator.act_bias.fill_(0.3)
    configurator.bfloat16()
    assert configurator.act_bias.equal(torch.tensor(0.3))
    assert configurator.temp.dtype == torch.bfloat16
    assert configurator.act_bias.dtype == torch.float32
    assert configurator.double().act_bias.dtype == torch.float64
    assert "act_bias" in configurator.state_dict()
    _, confidence = configurator(torch.randn(1, 4, 2, dtype=torch.float16))
    assert confidence.dtype == torch.float16


def test_no_rate_before_the_first_forward() -> None:
    with pytest.raises(RuntimeError, match="run the model once"):
        LatentConfigurator(8).activation_rate()
