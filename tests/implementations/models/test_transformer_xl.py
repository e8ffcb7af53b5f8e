"""Transformer-XL: segments and memory against one dense attention; blind to the future and to padding."""

import pytest
import torch
from torch import Tensor

from implementations.models.transformer_xl import (
    RelativeAttention,
    TransformerXLConfig,
    TransformerXLStack,
    build,
    hidden_keys,
    relative_shift,
)
from implementations.ops.segments import remember
from implementations.task import Task

from .efficient_attention import growth

TINY = {"layers": 2, "dim": 16, "heads": 2, "ffn": 24, "segment": 8, "memory": 8, "dropout": 0.0}
TEXT = Task("text", length=24, classes=3, vocabulary=20)
IMAGE = Task("image", length=24, classes=3, input="reals")
RETRIEVAL = Task("retrieval", length=24, classes=2, head="two-tower", vocabulary=20)
LANGUAGE = Task("enwik8", length=24, classes=20, head="language-model", vocabulary=20)
LENGTHS = torch.tensor([24, 9])


def tokens(*shape: int) -> Tensor:
    return torch.randint(1, 20, shape, generator=torch.Generator().manual_seed(0))


def stack(**changes: object) -> TransformerXLStack:
    """A stack in float64 whose weights are large enough for attention to be far from uniform."""
    torch.manual_seed(0)
    config = TransformerXLConfig(**{**TINY, **changes})  # type: ignore[arg-type]
    module = TransformerXLStack(config).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(10) if parameter.dim() == 2 else None
    return module


def states(length: int = 27) -> Tensor:
    return torch.randn(2, length, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def dense(module: TransformerXLStack, x: Tensor) -> Tensor:
    """The same stack with all keys of the sequence in one matrix, element by element from the paper."""
    config, length = module.config, x.shape[1]
    query, key = torch.arange(length)[:, None], torch.arange(length)[None, :]
    start = query // config.segment * config.segment
    visible = (key <= query) & (key >= start - config.memory)
    if config.same_length:
        visible &= query - key < config.memory
    distance = (query - key).clamp(0, config.clamp_length or length)
    r = module.positions(length)[distance]
    for layer in module.layers:
        attention = layer.dec_attn
        u = attention.layer_norm(x) if config.prenorm else x
        q, k, v = (t.view(2, length, 2, 8) for t in attention.qkv_net(u).chunk(3, dim=-1))
        content = torch.einsum("bihd,bjhd->bhij", q + module.r_w_bias, k)
        position = torch.einsum(
            "bihd,ijhd->bhij", q + module.r_r_bias, attention.r_net(r).view(length, length, 2, 8)
        )
        weights = ((content + position) / 8**0.5).masked_fill(~visible, -torch.inf).softmax(dim=-1)
        x = x + attention.o_net(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))
        x = x if config.prenorm else attention.layer_norm(x)
        x = layer.pos_ff(x)
    return x


@pytest.mark.parametrize("prenorm", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"memory": 3},
        {"memory": 20},
        {"memory": 0},
        {"same_length": True},
        {"memory": 20, "clamp_length": 4},
        {"segment": 64},
    ],
    ids=str,
)
def test_segments_are_the_dense_attention_that_they_see(changes: dict[str, object], prenorm: bool) -> None:
    module = stack(prenorm=prenorm, **changes)
    torch.testing.assert_close(module(states()), dense(module, states()))


def test_a_stream_of_segments_is_the_whole_sequence() -> None:
    module, x = stack(), states()
    memory, outputs = module.empty_memory(x), []
    for segment in x.split(8, dim=1):
        y, memory = module.advance(segment, memory)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, dim=1), module(x))


def test_no_gradient_flows_through_the_memory() -> None:
    x = states().requires_grad_()
    (gradient,) = torch.autograd.grad(stack()(x)[:, 16:24].square().sum(), x)
    assert gradient[:, :16].eq(0).all()
    assert gradient[:, 16:24].abs().amax(dim=-1).gt(0).all()


def test_each_layer_reaches_back_by_its_memory() -> None:
    module, x = stack(memory=4), states(24)
    plain = module(x)[:, 20]

    def change(position: int) -> Tensor:
        moved = x.clone()
        moved[:, position] += 1.0
        return (module(moved)[:, 20] - plain).abs().max()

    # Step 20's segment starts at 16 and its memory at 12, whose own segment starts at 8 and its memory at 4.
    assert change(4) > 1e-6
    assert change(3) == 0


def test_remember_keeps_the_last_states() -> None:
    memory, x = torch.arange(5.0)[None, :, None], torch.arange(5.0, 9.0)[None, :, None]
    for size in (0, 3, 4, 6, 9, 20):
        kept = remember(memory, x.requires_grad_(), size)
        assert kept.flatten().tolist() == list(range(9))[max(0, 9 - size) :]
        assert not kept.requires_grad


def test_relative_shift_puts_distances_under_their_keys() -> None:
    length, before = 3, 2
    keys = length + before
    by_distance = torch.arange(keys - 1, -1, -1.0).expand(length, keys)
    shifted = relative_shift(by_distance)
    expected = torch.arange(length)[:, None] + before - torch.arange(keys)
    seen = ~hidden_keys(length, before, None, torch.device("cpu"))
    assert shifted[seen].tolist() == expected[seen].tolist()
    assert seen.sum(dim=1).tolist() == [3, 4, 5]


@pytest.mark.parametrize("prenorm", [False, True])
def test_gradients_of_the_attention(prenorm: bool) -> None:
    torch.manual_seed(0)
    attention = RelativeAttention(4, 2, 3, prenorm=prenorm).double()
    shapes = [(2, 3, 4), (2, 2, 4), (5, 4), (2, 3), (2, 3)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    hidden = hidden_keys(3, 2, None, torch.device("cpu"))
    assert torch.autograd.gradcheck(lambda *tensors: attention(*tensors, hidden), inputs)


def test_time_and_memory_are_linear_in_the_length() -> None:
    small = {"dim": 64, "heads": 2, "layers": 2, "ffn": 128, "segment": 128, "memory": 128}
    growing = growth(build, small, length=1024, name="enwik8")
    assert growing.peak_bytes < 2.1
    assert growing.flops < 2.1


def test_mistakes_are_refused() -> None:
    with pytest.raises(TypeError, match="head_count"):
        build(TEXT, {**TINY, "head_count": 2})
    with pytest.raises(ValueError, match="3 heads"):
        build(TEXT, {**TINY, "heads": 3})
    with pytest.raises(ValueError, match="same_length"):
        build(TEXT, {**TINY, "memory": 0, "same_length": True})
    with pytest.raises(ValueError, match="segment"):
        build(TEXT, {**TINY, "segment": 0})
