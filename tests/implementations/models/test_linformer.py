"""Linformer: attention to projections along the length, linear in it, up to the length it was built for."""

from typing import Any

import pytest
import torch

from implementations.models.linformer import LinformerAttention, build
from implementations.ops.attention import MultiHeadAttention, SoftmaxMixer

from .efficient_attention import (
    growth,
    half_precision_is_close,
    padding_error,
    random,
    seeded,
    task,
    tokens,
)

TINY: dict[str, Any] = {
    "layers": 2,
    "dim": 12,
    "heads": 2,
    "qkv": 8,
    "ffn": 16,
    "k": 6,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}


def test_projecting_to_every_position_is_the_transformers_attention() -> None:
    torch.manual_seed(0)
    ours = LinformerAttention(12, 3, max_length=7, k=7).double()
    theirs = MultiHeadAttention(12, 3, SoftmaxMixer(), qkv_bias=False).double()
    with torch.no_grad():
        ours.proj_k.copy_(torch.eye(7))
        ours.proj_v.copy_(torch.eye(7))
        for name, linear in (
            ("to_q", "q_proj"),
            ("to_k", "k_proj"),
            ("to_v", "v_proj"),
            ("to_out", "out_proj"),
        ):
            getattr(ours, name).load_state_dict(getattr(theirs, linear).state_dict())
    x = random(2, 7, 12)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("share_kv", [False, True])
@pytest.mark.parametrize("one_kv_head", [False, True])
def test_gradients_of_the_attention(share_kv: bool, one_kv_head: bool) -> None:
    torch.manual_seed(0)
    attention = LinformerAttention(6, 2, 5, 3, share_kv=share_kv, one_kv_head=one_kv_head).double()
    assert torch.autograd.gradcheck(attention, (random(2, 4, 6).requires_grad_(),))


def test_keys_and_values_come_from_the_context() -> None:
    torch.manual_seed(0)
    attention = LinformerAttention(6, 2, 9, 3).double()
    x, context = random(2, 4, 6), random(2, 9, 6, seed=1)
    torch.testing.assert_close(attention(context, context=context), attention(context))
    assert attention(x, context=context).shape == x.shape
    assert not torch.allclose(attention(x, context=context), attention(x))


def test_longer_than_built_for_is_an_error() -> None:
    model = seeded(build, task(length=64), TINY)
    assert model(tokens(1, 64)).isfinite().all()
    with pytest.raises(ValueError, match="sequences of at most 64, this one has 65") as error:
        model(tokens(1, 65))
    assert "\n" not in str(error.value)


def test_padding_is_projected_like_all_else() -> None:
    """As in the official code, which has no mask."""
    assert padding_error(seeded(build, task(), TINY), 20, 40) > 1e-6


def test_cost_is_linear_in_the_length() -> None:
    cost = growth(build, TINY, 1024)
    assert cost.peak_bytes <= 2.1
    assert cost.flops <= 2.1


def test_half_precision_is_close() -> None:
    half_precision_is_close(build, TINY)


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match="features"):
        build(task(), {**TINY, "features": 3})
    with pytest.raises(ValueError, match="3 heads do not divide"):
        build(task(), {**TINY, "heads": 3})
