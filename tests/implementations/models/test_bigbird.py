"""BigBird: gathered blocks equal a dense mask, random blocks are drawn once, cost is that of blocks."""

from typing import Any

import pytest
import torch
from torch import Tensor

from implementations.models.bigbird import BigBirdMixer, block_sparse_attention, build
from implementations.ops.attention import SoftmaxMixer

from .efficient_attention import (
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
    "block": 4,
    "random_blocks": 1,
    "dropout": 0.0,
}


def attended(random_blocks: Tensor, blocks: int) -> Tensor:
    """`(heads, blocks, blocks)`: how often each query block attends each key block."""
    heads = random_blocks.shape[0]
    count = torch.zeros(heads, blocks, blocks)
    count[:, 0] = count[:, -1] = 1
    for row in range(1, blocks - 1):
        for key in {0, row - 1, row, row + 1, blocks - 1}:
            count[:, row, key] = 1
        for head in range(heads):
            for key in random_blocks[head, row - 1]:
                count[head, row, key] += 1
    return count


@pytest.mark.parametrize("blocks", [4, 5, 9])
@pytest.mark.parametrize("lengths", [None, [36, 7]])
def test_gathered_blocks_equal_a_dense_mask(blocks: int, lengths: list[int] | None) -> None:
    length = blocks * 4
    q, k, v = (random(2, 3, length, 5, seed=seed) for seed in range(3))
    random_blocks = torch.randint(0, blocks, (3, blocks - 2, 2), generator=torch.Generator().manual_seed(0))
    mask = None if lengths is None else padding(lengths, length)
    count = attended(random_blocks, blocks).repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    scores = q @ k.mT / 5**0.5 + count.double().log()
    if mask is not None:
        scores = scores - 10000.0 * mask[:, None, None, :]
    expected = scores.softmax(dim=-1) @ v
    torch.testing.assert_close(block_sparse_attention(q, k, v, random_blocks, 4, mask), expected)


def test_gradients_of_block_sparse_attention() -> None:
    heads = [random(1, 2, 10, 3, seed=seed).requires_grad_() for seed in range(3)]
    random_blocks = torch.tensor([[[4], [0], [1]], [[3], [4], [2]]])
    mask = padding([7], 10)
    assert torch.autograd.gradcheck(
        lambda q, k, v: block_sparse_attention(q, k, v, random_blocks, 2, mask), heads
    )


@pytest.mark.parametrize("blocks", [12, 20])
def test_random_blocks_are_distinct_and_not_attended_already(blocks: int) -> None:
    torch.manual_seed(0)
    mixer = BigBirdMixer(heads=3, max_length=80, block=4, random_blocks=3)
    drawn = mixer.random_blocks(blocks)
    assert drawn.shape == (3, blocks - 2, 3)
    assert attended(drawn, blocks).max() == 1
    assert drawn.equal(mixer.random_blocks(blocks))
    assert not drawn[0].equal(drawn[1])


def test_short_sequences_are_attended_in_full() -> None:
    torch.manual_seed(0)
    mixer = BigBirdMixer(heads=2, max_length=64, block=4, random_blocks=1)
    mask = padding([28, 9], 28)
    q, k, v = (random(2, 2, 28, 3, seed=seed) for seed in range(3))
    expected = SoftmaxMixer()(q, k, v, mask).masked_fill(mask[:, None, :, None], 0.0)
    torch.testing.assert_close(mixer(q, k, v, mask), expected)
    longer = [random(1, 2, 32, 3, seed=seed) for seed in range(3)]
    assert not torch.allclose(mixer(*longer), SoftmaxMixer()(*longer, None))


def test_a_length_between_blocks_is_filled_up_and_masked() -> None:
    torch.manual_seed(0)
    mixer = BigBirdMixer(heads=2, max_length=64, block=4, random_blocks=1)
    heads = [random(1, 2, 40, 3, seed=seed) for seed in range(3)]
    short = mixer(*(x[:, :, :38] for x in heads))
    torch.testing.assert_close(short, mixer(*heads, padding([38], 40))[:, :, :38])


def test_padding_moves_the_last_block() -> None:
    """Padding within the last block changes nothing; more of it makes another block the last, global one."""
    model = seeded(build, task(), TINY)
    assert padding_error(model, 38, 40) < 1e-12
    assert padding_error(model, 38, 48) > 1e-6


def test_random_blocks_come_from_the_seed() -> None:
    one, same, other = (seeded(build, task(), TINY, seed).state_dict() for seed in (0, 0, 1))
    names = [name for name in one if name.endswith("priorities")]
    assert len(names) == 2
    assert all(one[name].equal(same[name]) and not one[name].equal(other[name]) for name in names)


def test_cost_follows_the_blocks() -> None:
    cost = growth(build, {**TINY, "block": 16}, 1024)
    assert cost.peak_bytes <= 2.1
    assert cost.flops <= 2.1


def test_half_precision_is_close() -> None:
    half_precision_is_close(build, TINY)


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match="features"):
        build(task(), {**TINY, "features": 3})
    with pytest.raises(ValueError, match="at most 16 blocks of 4, this sequence has 17"):
        build(task(), TINY)(tokens(1, 65))
