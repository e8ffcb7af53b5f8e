"""Luna: pack and unpack linear in the length, blind to padding; causal by running means."""

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from implementations.models.luna import CausalLunaAttention, LunaAttention, build
from implementations.ops.attention import split_heads

from .efficient_attention import (
    future_gradients,
    growth,
    half_precision_is_close,
    padding,
    padding_error,
    random,
    seeded,
    task,
)

TINY: dict[str, Any] = {
    "layers": 2,
    "dim": 12,
    "heads": 2,
    "ffn": 16,
    "projection": 10,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}


@pytest.mark.parametrize("tie_kv", [False, True])
def test_gradients_of_the_attention(tie_kv: bool) -> None:
    torch.manual_seed(0)
    attention = LunaAttention(6, 2, 3, tie_kv).double()
    x, p = random(2, 5, 6).requires_grad_(), random(2, 3, 6, seed=1).requires_grad_()
    masks = padding([5, 3], 5), padding([3, 2], 3)
    assert torch.autograd.gradcheck(lambda x, p: attention(x, p, *masks), (x, p))


@pytest.mark.parametrize("tie_kv", [False, True])
def test_gradients_of_the_causal_attention(tie_kv: bool) -> None:
    torch.manual_seed(0)
    attention = CausalLunaAttention(6, 2, tie_kv).double()
    x, p = random(2, 5, 6).requires_grad_(), random(1, 3, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(attention, (x, p))


def test_causal_attention_is_recurrent() -> None:
    """A state of sums per head gives the same, one time step after the other."""
    torch.manual_seed(0)
    attention = CausalLunaAttention(6, 2, tie_kv=False).double()
    x, p = random(1, 9, 6), random(1, 4, 6, seed=1)
    pq, pc, q, k, v = (
        split_heads(states, 2)
        for states in (
            attention.pq_proj(p),
            attention.pc_proj(x),
            attention.q_proj(x),
            attention.k_proj(x),
            attention.v_proj(x),
        )
    )
    of_keys, of_values = torch.zeros(1, 2, 3, 4).double(), torch.zeros(1, 2, 4, 3).double()
    steps = []
    for t in range(9):
        weights = F.softplus(pq @ pc[:, :, t, :, None] / math.sqrt(3), beta=math.log(2))
        of_keys += k[:, :, t, :, None] * weights.mT
        of_values += weights * v[:, :, t, None]
        scores = q[:, :, t, None] @ of_keys / (t + 1) / math.sqrt(3)
        steps.append(scores.softmax(dim=-1) @ of_values / (t + 1))
    expected = attention.out_proj(torch.cat(steps, dim=2).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, p), expected)


def test_no_gradient_from_the_future() -> None:
    torch.manual_seed(0)
    attention = CausalLunaAttention(6, 2).double()
    p = random(1, 4, 6, seed=1)
    assert future_gradients(lambda x: attention(x, p), random(1, 150, 6)).eq(0).all()


@pytest.mark.parametrize("length", [3, 10, 25])
@pytest.mark.parametrize("prenorm", [False, True])
def test_padding_changes_nothing(length: int, prenorm: bool) -> None:
    """Also where the sequence is shorter than p, which is cut to it."""
    model = seeded(build, task(), {**TINY, "prenorm": prenorm})
    assert padding_error(model, length, 40) < 1e-12


def test_layers_hand_on_the_packed_state() -> None:
    model = seeded(build, task(), TINY)
    stack = model.pool.encoder.layers[0]
    x = random(1, 20, 12).float()
    whole = stack(x)
    p = stack.state()
    for layer in stack.layers:
        x, p = layer(x, p)
    torch.testing.assert_close(whole, x)
    assert not torch.allclose(p, stack.state())


def test_p_has_the_norm_and_the_positions_of_the_embedding() -> None:
    model = seeded(build, task(), {**TINY, "embedding_norm": True, "positions": "fairseq"})
    state = model.pool.encoder.layers[0].state
    p = state()
    torch.testing.assert_close(p.mean(dim=-1), torch.zeros(1, 10), atol=1e-5, rtol=0)
    torch.nn.init.zeros_(state.weight)
    assert not torch.allclose(state()[:, 0], state()[:, 1])


@pytest.mark.parametrize("name", ["text", "enwik8"])
def test_cost_is_linear_in_the_length(name: str) -> None:
    cost = growth(build, TINY, 1024, name)
    assert cost.peak_bytes <= 2.1
    assert cost.flops <= 2.1


def test_half_precision_is_close() -> None:
    half_precision_is_close(build, TINY)


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match="features"):
        build(task(), {**TINY, "features": 3})
    with pytest.raises(ValueError, match="5 heads do not divide"):
        build(task(), {**TINY, "heads": 5})
