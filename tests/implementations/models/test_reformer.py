"""Reformer: hashed attention equals a dense mask of what is within reach; layers run backwards exactly."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.probes.tensor_bytes import TensorBytes
from implementations.models.reformer import ReformerAttention, ReformerConfig, ReformerStack, build
from implementations.ops.lsh_attention import SELF_SCORE, full_attention, hash_buckets, lsh_attention

from .efficient_attention import (
    future_gradients,
    growth,
    half_precision_is_close,
    padding,
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
    "bucket": 4,
    "hashes": 2,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}


def buckets_of(x: Tensor, rounds: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    rotations = torch.randn(1, x.shape[-1], rounds, count // 2, generator=generator, dtype=x.dtype)
    return hash_buckets(x, rotations)


def within_reach(buckets: Tensor, chunk: int, across_buckets: bool) -> Tensor:
    """`(rounds, length, length)` of one row: keys in the query's own chunk or the one before."""
    rounds, length = buckets.shape
    order = [
        (turn, t)
        for turn in range(rounds)
        for t in sorted(range(length), key=lambda t: (buckets[turn, t].item(), t))
    ]
    chunks = [order[start : start + chunk] for start in range(0, len(order), chunk)]
    reach = torch.zeros(rounds, length, length)
    for previous, own in zip([chunks[-1], *chunks], chunks, strict=False):
        for (turn, query), (key_turn, key) in itertools.product(own, previous + own):
            if across_buckets or buckets[turn, query] == buckets[key_turn, key]:
                reach[turn, query, key] += 1
    return reach


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("lengths", [None, [16, 11]])
@pytest.mark.parametrize("causal", [False, True])
def test_paper_form_attends_the_union_of_the_buckets(
    rounds: int, lengths: list[int] | None, causal: bool
) -> None:
    """Without duplicates, all rounds together are one softmax over the keys that any round brought near."""
    qk, v = random(2, 16, 5), random(2, 16, 3, seed=1)
    buckets = buckets_of(qk, rounds, count=8)
    mask = None if lengths is None else padding(lengths, 16)
    result = lsh_attention(
        qk,
        v,
        buckets,
        2,
        padding_mask=mask,
        causal=causal,
        across_buckets=False,
        allow_duplicates=False,
    )
    for row in range(2):
        seen = within_reach(buckets[row], 2, across_buckets=False).sum(dim=0) > 0
        if mask is not None:
            seen &= ~mask[row] & ~mask[row][:, None]
        if causal:
            seen = seen.tril()
        scores = qk[row] @ F.normalize(qk[row], dim=-1).mT / 5**0.5
        scores = scores.masked_fill(~seen, float("-inf")).fill_diagonal_(SELF_SCORE)
        torch.testing.assert_close(result.output[row], scores.softmax(dim=-1) @ v[row])


def test_official_default_counts_every_round() -> None:
    qk, v = random(1, 16, 5), random(1, 16, 3, seed=1)
    buckets = buckets_of(qk, 3, count=8)
    count = within_reach(buckets[0], 2, across_buckets=True).sum(dim=0).double()
    scores = (qk[0] @ F.normalize(qk[0], dim=-1).mT / 5**0.5).fill_diagonal_(SELF_SCORE) + count.log()
    torch.testing.assert_close(lsh_attention(qk, v, buckets, 2).output[0], scores.softmax(dim=-1) @ v[0])


@pytest.mark.parametrize("causal", [False, True])
def test_two_chunks_reach_everything(causal: bool) -> None:
    qk, v = random(2, 12, 5), random(2, 12, 3, seed=1)
    mask = None if causal else padding([12, 12], 12)
    buckets = buckets_of(qk, 1, count=2)
    hashed = lsh_attention(qk, v, buckets, 6, causal=causal, padding_mask=mask).output
    torch.testing.assert_close(hashed, full_attention(qk, v, causal=causal, padding_mask=mask))


def test_buckets_are_directions() -> None:
    x = random(2, 9, 5)
    buckets = buckets_of(x, 3, count=8)
    assert buckets.equal(buckets_of(x * 7, 3, count=8))
    assert (buckets % 8).equal((buckets_of(-x, 3, count=8) + 4) % 8)
    assert (buckets // 8).equal(torch.arange(3)[:, None].expand(2, 3, 9))


@pytest.mark.parametrize(("across_buckets", "allow_duplicates"), [(True, True), (False, False)])
def test_gradients_of_hashed_attention(across_buckets: bool, allow_duplicates: bool) -> None:
    qk, v = random(1, 8, 3).requires_grad_(), random(1, 8, 2, seed=1).requires_grad_()
    buckets = buckets_of(qk, 2, count=4)

    def attend(qk: Tensor, v: Tensor) -> Tensor:
        options = {"across_buckets": across_buckets, "allow_duplicates": allow_duplicates}
        return lsh_attention(qk, v, buckets, 2, padding_mask=padding([7], 8), **options).output

    assert torch.autograd.gradcheck(attend, (qk, v))


@pytest.mark.parametrize("length", [3, 30])
def test_no_gradient_from_the_future(length: int) -> None:
    torch.manual_seed(0)
    attention = ReformerAttention(6, 2, 32, bucket=4, hashes=2, causal=True, across_buckets=False).double()
    assert future_gradients(lambda x: attention(x)[0], random(1, length, 6)).eq(0).all()


def test_an_earlier_pass_decides_the_buckets() -> None:
    torch.manual_seed(0)
    attention = ReformerAttention(6, 2, 32, bucket=4, hashes=2).double()
    x = random(1, 32, 6)
    y, buckets = attention(x)
    assert buckets is not None
    torch.testing.assert_close(attention(x, buckets=buckets)[0], y)
    assert not torch.allclose(attention(x, buckets=buckets.roll(1, dims=-1))[0], y)


def by_plain_autograd(stack: ReformerStack, x: Tensor, mask: Tensor) -> Tensor:
    first = second = x
    for step in stack.steps:
        first, second = second, first + step(second, mask, None)[0]
    return (first + second) / 2


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_running_backwards_gives_the_gradients_of_autograd(dropout: float) -> None:
    torch.manual_seed(0)
    config = ReformerConfig(**{**TINY, "layers": 3, "dropout": dropout, "attention_dropout": dropout})
    stack = ReformerStack(config, 30, causal=False).double()
    mask = padding([30, 13], 30)
    x, cotangent = random(2, 30, 12).requires_grad_(), random(2, 30, 12, seed=1)
    results = []
    for function in (stack, lambda x, mask: by_plain_autograd(stack, x, mask)):
        torch.manual_seed(7)
        y = function(x, mask)
        results.append((y, torch.autograd.grad(y, [x, *stack.parameters()], cotangent)))
    (ours, our_gradients), (theirs, their_gradients) = results
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_depth_costs_no_activations() -> None:
    def peak(layers: int) -> int:
        stack = ReformerStack(ReformerConfig(**{**TINY, "layers": layers}), 256, causal=False)
        x = torch.randn(1, 256, 12)
        with TensorBytes() as memory:
            stack(x).sum().backward()
        return memory.peak - memory.before

    assert peak(6) < 1.3 * peak(2)


def test_frozen_parameters_are_left_alone() -> None:
    torch.manual_seed(0)
    stack = ReformerStack(ReformerConfig(**TINY), 32, causal=False)
    stack.steps[0].requires_grad_(False)
    stack(torch.randn(1, 32, 12)).sum().backward()
    assert all(p.grad is None for p in stack.steps[0].parameters())
    assert all(p.grad is not None for p in stack.steps[1].parameters())


def test_padding_takes_part_in_the_sort() -> None:
    """As in the official code: padded positions fill buckets too, though nothing real attends them."""
    assert padding_error(seeded(build, task(), TINY), 30, 48) > 1e-6


def test_rotations_come_from_the_seed() -> None:
    one, same, other = (seeded(build, task(), TINY, seed).state_dict() for seed in (0, 0, 1))
    names = [name for name in one if name.endswith("rotations")]
    assert len(names) == 2
    assert all(one[name].equal(same[name]) and not one[name].equal(other[name]) for name in names)


@pytest.mark.parametrize("name", ["text", "enwik8"])
def test_cost_is_far_from_quadratic(name: str) -> None:
    """Every position is held against every bucket's direction, but attended are two chunks."""
    cost = growth(build, {**TINY, "bucket": 16}, 1024, name)
    assert cost.peak_bytes <= 2.2
    assert cost.flops <= 2.6


def test_half_precision_is_close() -> None:
    half_precision_is_close(build, TINY)


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match="features"):
        build(task(), {**TINY, "features": 3})
    with pytest.raises(ValueError, match="are pre-norm"):
        build(task(), {**TINY, "prenorm": False})
    with pytest.raises(ValueError, match="3 heads do not divide"):
        build(task(), {**TINY, "heads": 3})
    with pytest.raises(ValueError, match="at most 64, this one has 72"):
        build(task(), TINY)(tokens(1, 65))


def test_a_number_of_buckets_decides_their_size() -> None:
    """That of the longest sequence; shorter ones have fewer."""
    config = {**TINY, "buckets": 10}
    attention = build(task(length=200), config).pool.encoder.layers[0].steps[0].fn
    assert attention.bucket == 20
    assert attention.rotations.shape[-1] == 5


def test_second_derivatives_are_refused() -> None:
    """The gradients of the recomputed steps have no graph of their own: what would come is a part alone."""
    torch.manual_seed(0)
    stack = ReformerStack(ReformerConfig(**TINY), 32, causal=False)
    x = torch.randn(1, 32, 12, requires_grad=True)
    (gradient,) = torch.autograd.grad(stack(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
