"""The Transformer: one function in two forms, blind to padding and to the future, under every head."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from implementations.embeddings import FairseqSinusoids
from implementations.encoder import parameter_count
from implementations.models.transformer import TransformerConfig, TransformerLayer, build, build_around
from implementations.ops.attention import MultiHeadAttention, SDPAMixer, SoftmaxMixer
from implementations.task import Task

TINY = {"layers": 2, "dim": 16, "heads": 2, "ffn": 24, "dropout": 0.0, "attention_dropout": 0.0}
TEXT = Task("text", length=24, classes=3, vocabulary=20)
IMAGE = Task("image", length=24, classes=3, input="reals")
RETRIEVAL = Task("retrieval", length=24, classes=2, head="two-tower", vocabulary=20)
LANGUAGE = Task("enwik8", length=24, classes=20, head="language-model", vocabulary=20)
LENGTHS = torch.tensor([24, 9])


def tokens(*shape: int) -> Tensor:
    return torch.randint(1, 20, shape, generator=torch.Generator().manual_seed(0))


def padding(lengths: Tensor, length: int) -> Tensor:
    return torch.arange(length) >= lengths[:, None]


def heads(batch: int = 2, length: int = 10, requires_grad: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, 2, length, 4, dtype=torch.float64, generator=generator).requires_grad_(
            requires_grad
        )
        for _ in range(3)
    ]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, padding(torch.tensor([10, 4]), 10)], ids=["full", "padded"])
def test_sdpa_is_the_materialised_attention(causal: bool, mask: Tensor | None) -> None:
    results = []
    for mixer in (SoftmaxMixer(causal), SDPAMixer(causal)):
        inputs = heads(requires_grad=True)
        mixed = mixer(*inputs, mask)
        results.append([mixed, *torch.autograd.grad(mixed.square().sum(), inputs)])
    torch.testing.assert_close(results[0], results[1])


def test_weights_are_the_softmax_of_scaled_products_over_visible_keys() -> None:
    q, k, _ = heads()
    mask = padding(torch.tensor([10, 4]), 10)
    weights = SoftmaxMixer(causal=True).weights(q, k, mask)
    seen = (q[1, 0, 6] @ k[1, 0, :4].T / 2.0).exp()
    torch.testing.assert_close(weights[1, 0, 6, :4], seen / seen.sum())
    assert weights[1, 0, 6, 4:].eq(0).all()


def test_attention_dropout_drops_entries_of_the_matrix() -> None:
    q, k, _ = heads(length=64)
    torch.manual_seed(0)
    mixed = SoftmaxMixer(dropout=0.5)(q, k, torch.eye(64, dtype=q.dtype).expand(2, 2, 64, 64), None)
    assert 0.45 < mixed.eq(0).double().mean() < 0.55


@pytest.mark.parametrize("mixer", [SoftmaxMixer, SDPAMixer])
@pytest.mark.parametrize("prenorm", [False, True])
def test_gradients_of_the_layer(mixer: Callable[..., nn.Module], prenorm: bool) -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(
        MultiHeadAttention(4, 2, mixer()), 4, 6, prenorm=prenorm, activation="gelu_tanh"
    ).double()
    x = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    mask = padding(torch.tensor([5, 3]), 5)
    assert torch.autograd.gradcheck(lambda states: layer(states, mask), (x,))


def test_norm_stands_after_the_sum_or_before_the_sublayer() -> None:
    x = 3 + 5 * torch.randn(2, 6, 16)

    class Silent(nn.Module):
        def forward(self, states: Tensor, padding_mask: Tensor | None) -> Tensor:
            return torch.zeros_like(states)

    for prenorm in (True, False):
        layer = TransformerLayer(Silent(), 16, 24, prenorm=prenorm)
        nn.init.zeros_(layer.fc2.weight)
        nn.init.zeros_(layer.fc2.bias)
        y = layer(x)
        if prenorm:
            torch.testing.assert_close(y, x)
        else:
            torch.testing.assert_close(y.mean(dim=-1), torch.zeros(2, 6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("sdpa", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_padding_changes_nothing(sdpa: bool, pooling: str, positions: str) -> None:
    torch.manual_seed(0)
    model = build(TEXT, {**TINY, "sdpa": sdpa, "pooling": pooling, "positions": positions}).double()
    inputs = tokens(2, 24)
    padded = model(inputs, LENGTHS)
    torch.testing.assert_close(padded[:1], model(inputs[:1]))
    torch.testing.assert_close(padded[1:], model(inputs[1:, :9]))


def test_positions_tell_orders_apart() -> None:
    model = build(TEXT, TINY)
    inputs = tokens(1, 24)
    assert not torch.allclose(model(inputs), model(inputs.flip(1)))
    blind = build(TEXT, {**TINY, "positions": "none"}).double()
    torch.testing.assert_close(blind(inputs), blind(inputs.flip(1)))


def test_tied_layers_are_one_layer_run_again() -> None:
    model = build(TEXT, {**TINY, "tied": True})
    first, second = model.pool.encoder.layers
    assert first is second
    once = build(TEXT, {**TINY, "layers": 1})
    assert parameter_count(model) == parameter_count(once)
    once.load_state_dict(
        {name: value for name, value in model.state_dict().items() if "layers.1" not in name}
    )
    assert not torch.allclose(model(tokens(2, 24)), once(tokens(2, 24)))


def test_grey_values_are_read_as_tokens() -> None:
    """The published scale of the task turns them back, each within half a level; other reals are refused."""
    grey = IMAGE.grey
    assert grey is not None
    model = build(IMAGE, {**TINY, "pixels": "tokens"})
    levels = torch.tensor([[0, 255, 17, *range(100, 121)]])
    x = (levels / 255 - grey.mean) / grey.deviation
    torch.testing.assert_close(model.pool.encoder.embedding(x), model.pool.encoder.embedding.weight[levels])
    nudge = 0.4 / 255 / grey.deviation
    assert torch.equal(model(x + nudge), model(x))
    assert not torch.allclose(model(x + 2 * nudge), model(x))
    with pytest.raises(ValueError, match="'speech' are not grey levels"):
        build(Task("speech", length=24, classes=3, input="reals"), {**TINY, "pixels": "tokens"})


def test_positions_of_fairseq_reach_a_frequency_of_one_ten_thousandth() -> None:
    positions = FairseqSinusoids(8)
    expected = [math.sin(5 * 10000 ** (-i / 3)) for i in range(4)]
    torch.testing.assert_close(positions(6)[3, :4], torch.tensor(expected))
    torch.testing.assert_close(positions.at(3), positions(6)[3])


def test_the_embedding_is_normalised_with_its_position() -> None:
    model = build(TEXT, {**TINY, "embedding_norm": True, "positions": "fairseq"})
    states, _ = model.pool.encoder._embed(tokens(2, 24), None)
    torch.testing.assert_close(states.mean(dim=-1), torch.zeros(2, 24), atol=1e-5, rtol=0)


def test_the_last_state_is_that_of_the_last_real_position() -> None:
    model = build(TEXT, {**TINY, "pooling": "last"}).eval()
    inputs = tokens(2, 24)
    torch.testing.assert_close(model(inputs, LENGTHS)[1:], model(inputs[1:, :9]))
    states, _ = model.pool.encoder(inputs)
    torch.testing.assert_close(model.pool(inputs, None), states[:, -1])


def test_other_attentions_join_through_the_frame() -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
            return x.mean(dim=1, keepdim=True).expand_as(x)

    config = TransformerConfig(layers=3, dim=16, heads=2, ffn=24)
    model = build_around(TEXT, config, Mean)
    assert sum(isinstance(module, Mean) for module in model.modules()) == 3
    assert model(tokens(2, 24)).shape == (2, 3)


def test_mistakes_are_refused() -> None:
    with pytest.raises(TypeError, match="head_count"):
        build(TEXT, {**TINY, "head_count": 2})
    with pytest.raises(ValueError, match="3 heads"):
        build(TEXT, {**TINY, "heads": 3})
