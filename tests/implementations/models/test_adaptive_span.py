"""Adaptive Span: blocks, windows and segments against one dense attention; spans learn and are trimmed."""

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from implementations.models.adaptive_span import (
    AdaptiveMask,
    AdaptiveSpanConfig,
    AdaptiveSpanStack,
    SpanAttention,
    band,
    build,
    unband,
    windows,
)
from implementations.task import Task

from .efficient_attention import growth

TINY = {
    "layers": 2,
    "dim": 16,
    "heads": 2,
    "ffn": 24,
    "span": 12,
    "ramp": 4,
    "initial_span": 0.4,
    "segment": 8,
    "dropout": 0.0,
}
TEXT = Task("text", length=24, classes=3, vocabulary=20)
IMAGE = Task("image", length=24, classes=3, input="reals")
RETRIEVAL = Task("retrieval", length=24, classes=2, head="two-tower", vocabulary=20)
LANGUAGE = Task("enwik8", length=24, classes=20, head="language-model", vocabulary=20)
LENGTHS = torch.tensor([24, 9])


def tokens(*shape: int) -> Tensor:
    return torch.randint(1, 20, shape, generator=torch.Generator().manual_seed(0))


def stack(**changes: object) -> AdaptiveSpanStack:
    torch.manual_seed(0)
    module = AdaptiveSpanStack(AdaptiveSpanConfig(**{**TINY, **changes})).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for number, mask in enumerate(module.masks()):
            mask.current_val.copy_(torch.tensor([0.1 + 0.3 * number, 0.25])[:, None, None])
    return module


def states(length: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, length, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def dense(module: AdaptiveSpanStack, x: Tensor) -> Tensor:
    """The same stack over the full span with zeros before the sequence, all keys in one matrix."""
    config, length = module.config, x.shape[1]
    query, key = torch.arange(length)[:, None], torch.arange(-config.span, length)[None, :]
    distance = query - key
    visible = (distance >= 1) & (distance <= config.span)
    positions = module.key_pe[0].T[(config.span - distance).clamp(0, config.span - 1)]
    for layer in module.layers:
        attention = layer.attn
        seen = torch.cat([x.new_zeros(2, config.span, 16), x], dim=1)
        q = attention.proj_query(x).view(2, length, 2, 8)
        k = attention.proj_key(seen).view(2, -1, 2, 8)
        v = attention.proj_val(seen).view(2, -1, 2, 8)
        scores = torch.einsum("bihd,bjhd->bhij", q, k) + torch.einsum("bihd,ijd->bhij", q, positions)
        weights = (scores / 8**0.5).masked_fill(~visible, -torch.inf).softmax(dim=-1)
        if config.adaptive:
            z = attention.attn.mask.current_val
            weights = weights * ((z * config.span - (distance - 1)) / config.ramp + 1).clamp(0, 1)
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-8)
        mixed = torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2)
        x = layer.norm1(x + attention.proj_out(mixed))
        x = layer.norm2(x + layer.ff(x))
    return x


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"segment": 64},
        {"segment": 30},
        {"adaptive": False},
        {"adaptive": False, "segment": 64},
        {"span": 150},
        {"span": 300, "segment": 160},
    ],
    ids=str,
)
def test_segments_and_windows_are_the_dense_attention(changes: dict[str, object]) -> None:
    module, x = stack(**changes), states(50)
    # The 1e-8 of the mask's denominator counts less where the softmax runs over a trimmed window.
    torch.testing.assert_close(module(x), dense(module, x), rtol=0, atol=1e-6)


def test_a_stream_of_segments_is_the_whole_sequence() -> None:
    module, x = stack(), states(27)
    memory, outputs = module.empty_memory(x), []
    for segment in x.split(5, dim=1):
        y, memory = module.advance(segment, memory)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, dim=1), module(x))
    torch.testing.assert_close(module(x), stack(segment=100)(x))


def test_no_gradient_flows_through_the_memory() -> None:
    x = states(24).requires_grad_()
    (gradient,) = torch.autograd.grad(stack()(x)[:, 16:].square().sum(), x)
    assert gradient[:, :16].eq(0).all()
    assert gradient[:, 16:].abs().amax(dim=-1).gt(0).all()


@pytest.mark.parametrize(("longest", "window"), [(0.0, 40), (0.03, 104), (0.5, 552), (0.95, 1000)])
def test_windows_hold_the_longest_span_and_at_most_64_positions_more(longest: float, window: int) -> None:
    mask = AdaptiveMask(heads=2, span=1000, ramp=32)
    with torch.no_grad():
        mask.current_val[1] = longest
    seen = int((mask(torch.ones(1, 2, 1, 1000)) > 0).sum(dim=-1).max())
    assert mask.window(longest) == window
    assert seen <= window < seen + 64


def test_the_mask_is_one_within_the_span_and_falls_along_the_ramp() -> None:
    mask = AdaptiveMask(heads=1, span=10, ramp=4, initial=0.3)
    weights = mask(torch.ones(1, 1, 1, 10, requires_grad=True)).flatten()
    expected = torch.tensor([0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1])
    torch.testing.assert_close(weights, expected / expected.sum())
    torch.testing.assert_close(mask.loss(), torch.tensor(3.0))


def test_short_spans_remember_and_compute_no_more_than_their_window() -> None:
    module, x = stack(span=4096, segment=128, ramp=8), states(256)
    with torch.no_grad():
        for mask in module.masks():
            mask.current_val.zero_()
    _, memory = module.advance(x[:, :128], module.empty_memory(x))
    assert [remembered.shape[1] for remembered in memory] == [64, 64]

    def flops(spans: float) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            for mask in module.masks():
                mask.current_val.fill_(spans)
            module(x)
        return counter.get_total_flops()

    assert flops(1.0) > 10 * flops(0.0)


def test_band_and_its_inverse() -> None:
    x = torch.arange(15.0).view(3, 5)
    assert band(x).tolist() == [[0, 1], [6, 7], [12, 13]]
    assert unband(band(x)).tolist() == [[0, 1, 0, 0, 0], [0, 6, 7, 0, 0], [0, 0, 12, 13, 0]]


@pytest.mark.parametrize(("length", "window", "before"), [(5, 2, 2), (3, 4, 4), (3, 4, 1), (4, 2, 5)])
def test_gradients_of_the_attention(length: int, window: int, before: int) -> None:
    torch.manual_seed(0)
    attention = SpanAttention(AdaptiveMask(2, 6, 2, initial=0.3)).double()
    assert isinstance(attention.mask, AdaptiveMask)
    shapes = [(1, 2, length, 3), (1, 2, before + length, 3), (1, 2, before + length, 3), (1, 3, 6)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def call(z: Tensor, *tensors: Tensor) -> Tensor:
        return torch.func.functional_call(attention, {"mask.current_val": z}, (*tensors, window))

    z = torch.tensor([0.21, 0.37], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(call, (z, *inputs))


def test_training_brings_spans_back_to_shares_of_the_longest() -> None:
    model = build(RETRIEVAL, TINY)
    masks = [module for module in model.modules() if isinstance(module, AdaptiveMask)]
    outside = torch.tensor([-0.2, 1.3]).view(2, 1, 1)
    for mask in masks:
        mask.current_val.data.copy_(outside)
    model.eval()(tokens(1, 2, 24))
    assert all(mask.current_val.equal(outside) for mask in masks)
    model.train()(tokens(1, 2, 24)).square().sum().backward()
    assert all(mask.current_val.flatten().tolist() == [0.0, 1.0] for mask in masks)


def test_spans_learn_from_the_task_and_their_own_loss() -> None:
    model = build(TEXT, TINY)
    masks = [module for module in model.modules() if isinstance(module, AdaptiveMask)]
    model(tokens(2, 24)).square().sum().backward()
    assert all(mask.current_val.grad.abs().min() > 0 for mask in masks)
    for mask in masks:
        mask.current_val.grad = None
        mask.loss().backward()
        torch.testing.assert_close(mask.current_val.grad, torch.full((2, 1, 1), 12 / 2))


def test_language_model_does_not_see_the_future_nor_the_query_itself_but_by_its_residual() -> None:
    model = build(LANGUAGE, TINY)
    embedded: list[Tensor] = []
    model.encoder.embedding.register_forward_hook(lambda *call: embedded.append(call[-1]))
    logits = model(tokens(2, 24))
    (gradient,) = torch.autograd.grad(logits[:, 12].square().sum(), embedded)
    assert gradient[:, 13:].eq(0).all()
    assert gradient[:, 8:13].abs().amax(dim=-1).gt(0).all()


def test_time_and_memory_are_linear_in_the_length() -> None:
    published = {"dim": 64, "heads": 2, "layers": 2, "ffn": 128, "segment": 128, "initial_span": 0.01}
    growing = growth(build, published, length=1024, name="enwik8")
    assert growing.peak_bytes < 2.1
    assert growing.flops < 2.1


def test_mistakes_are_refused() -> None:
    with pytest.raises(TypeError, match="head_count"):
        build(TEXT, {**TINY, "head_count": 2})
    with pytest.raises(ValueError, match="3 heads"):
        build(TEXT, {**TINY, "heads": 3})
    with pytest.raises(ValueError, match="initial_span"):
        build(TEXT, {**TINY, "initial_span": 100})


def test_a_span_that_the_last_update_made_negative_is_zero_in_evaluation():
    mask = AdaptiveMask(heads=1, span=64, ramp=4).eval()
    weights = torch.rand(1, 1, 2, 64)
    expected = mask(weights)
    with torch.no_grad():
        mask.current_val.fill_(-0.2)
    assert torch.equal(mask(weights), expected)
    assert windows([mask]) == [mask.window(0.0)]


def test_distances_stay_apart_in_half_precision() -> None:
    mask = AdaptiveMask(heads=1, span=1000, ramp=100, initial=0.5).bfloat16()
    assert mask.mask_template.unique().numel() == 1000
    assert mask(torch.ones(1, 1, 1, 1000, dtype=torch.bfloat16)).dtype == torch.bfloat16
