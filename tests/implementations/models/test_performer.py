"""Performer: features that estimate the softmax, attention linear in the length."""

from typing import Any

import pytest
import torch
from torch import Tensor

from implementations.models import performer
from implementations.models.performer import (
    FavorMixer,
    build,
    causal_linear_attention,
    linear_attention,
    orthogonal_projection,
    softmax_features,
)
from implementations.ops.causal_products import causal_products

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
    "qkv": 8,
    "ffn": 16,
    "features": 6,
    "dropout": 0.0,
}


@pytest.mark.parametrize("length", [1, 7, 8, 20])
def test_causal_products_are_a_masked_matrix(length: int) -> None:
    q, k, v = random(2, length, 3), random(2, length, 3, seed=1), random(2, length, 4, seed=2)
    expected = (q @ k.mT).tril() @ v
    torch.testing.assert_close(causal_products(q, k, v, chunk=8), expected)


def test_gradients_of_causal_products() -> None:
    operands = [random(1, 7, 3, seed=seed).requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(lambda q, k, v: causal_products(q, k, v, chunk=3), operands)


def test_causal_attention_is_attention_to_the_past() -> None:
    q, k = random(2, 9, 5).abs(), random(2, 9, 5, seed=1).abs()
    v = random(2, 9, 4, seed=2)
    causal = causal_linear_attention(q, k, v)
    for t in range(9):
        past = linear_attention(q[:, t : t + 1], k[:, : t + 1], v[:, : t + 1])
        torch.testing.assert_close(causal[:, t : t + 1], past, rtol=1e-5, atol=1e-5)


def test_features_estimate_softmax_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performer, "SOFTMAX_EPSILON", 0.0)
    torch.manual_seed(0)
    q, k, v = (random(1, 10, 8, seed=seed) / 2 for seed in range(3))
    projection = orthogonal_projection(20_000, 8).double()
    estimate = linear_attention(
        softmax_features(q, projection, over=(-1,)), softmax_features(k, projection, over=(-2, -1)), v
    )
    exact = (q @ k.mT / 8**0.5).softmax(dim=-1) @ v
    assert (estimate - exact).norm() / exact.norm() < 0.05


def test_projection_is_orthogonal_in_blocks_with_gaussian_lengths() -> None:
    torch.manual_seed(0)
    projection = orthogonal_projection(1000, 8).double()
    lengths = projection.norm(dim=-1)
    first = projection[:8] / lengths[:8, None]
    torch.testing.assert_close(first @ first.mT, torch.eye(8).double(), rtol=0, atol=1e-6)
    assert projection.shape == (1000, 8)
    assert abs(lengths.square().mean() - 8) < 0.5
    assert lengths.std() > 0.5


@pytest.mark.parametrize("kernel", ["softmax", "relu", "none"])
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_of_the_mixer(kernel: Any, causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # The maximum taken out of the features is a constant to the gradient: it cancels but for the epsilons.
    monkeypatch.setattr(performer, "SOFTMAX_EPSILON", 0.0)
    monkeypatch.setattr(performer, "CAUSAL_EPSILON", 0.0)
    torch.manual_seed(0)
    mixer = FavorMixer(4, 6, kernel, causal).double()
    mask = padding([5, 3], 5)
    heads = [random(2, 2, 5, 4, seed=seed).requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(lambda q, k, v: mixer(q, k, v, mask), heads)


@pytest.mark.parametrize("kernel", ["softmax", "relu", "none"])
def test_no_gradient_from_the_future(kernel: Any) -> None:
    torch.manual_seed(0)
    mixer = FavorMixer(4, 6, kernel, causal=True).double()

    def attend(x: Tensor) -> Tensor:
        heads = x[:, None]
        return mixer(heads, heads, heads)[:, 0]

    assert future_gradients(attend, random(1, 150, 4)).eq(0).all()


def test_padding_counts_in_the_denominator() -> None:
    """The official code masks values only, so that padding shrinks what real positions get."""
    torch.manual_seed(0)
    mixer = FavorMixer(4, 6, "none").double()
    heads = torch.zeros(1, 1, 4, 4).double()
    mixed = mixer(heads, heads, torch.ones_like(heads), padding([3], 4))
    torch.testing.assert_close(mixed, torch.full_like(heads, 3 / 4))
    assert padding_error(seeded(build, task(), TINY), 20, 40) > 1e-6


def test_projections_come_from_the_seed() -> None:
    one, same, other = (seeded(build, task(), TINY, seed).state_dict() for seed in (0, 0, 1))
    names = [name for name in one if name.endswith("projection_matrix")]
    assert len(names) == 2
    assert all(one[name].equal(same[name]) and not one[name].equal(other[name]) for name in names)
    assert not one[names[0]].equal(one[names[1]])


@pytest.mark.parametrize("name", ["text", "enwik8"])
def test_cost_is_linear_in_the_length(name: str) -> None:
    cost = growth(build, TINY, 1024, name)
    assert cost.peak_bytes <= 2.1
    assert cost.flops <= 2.1


def test_half_precision_is_close() -> None:
    half_precision_is_close(build, TINY)


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match="buckets"):
        build(task(), {**TINY, "buckets": 3})
    with pytest.raises(ValueError, match="unknown kernel 'cosine'"):
        build(task(), {**TINY, "kernel": "cosine"})
    with pytest.raises(ValueError, match="3 heads do not divide"):
        build(task(), {**TINY, "heads": 3})


def test_without_features_queries_and_keys_are_read_as_they_are() -> None:
    q, k, v = (random(1, 2, 9, 4, seed=seed) for seed in range(3))
    weights = (q.relu() + 1e-3) @ (k.relu() + 1e-3).mT
    expected = weights / weights.sum(dim=-1, keepdim=True) @ v
    mixer = FavorMixer(4, features=0, kernel="relu")
    torch.testing.assert_close(mixer(q, k, v), expected)
    assert not mixer.state_dict()
    with pytest.raises(ValueError, match="needs random features"):
        FavorMixer(4, features=0)
