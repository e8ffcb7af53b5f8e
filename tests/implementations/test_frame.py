"""What stands around the layers, as the official models have it."""

import math

import pytest
import torch
from torch import nn

from implementations import registry
from implementations.embeddings import RealEmbedding
from implementations.heads import MLPHead
from implementations.ops.ema import DampedEMA
from implementations.task import Task

LANGUAGE = Task(name="enwik8", length=64, classes=206, input="tokens", vocabulary=206, head="language-model")
SMALL = {"layers": 1, "dim": 16, "hidden": 32, "attention_dim": 8}
SIZES = {
    "seqboat": SMALL,
    "mega-chunk": {**SMALL, "ffn": 32},
    "transformer-xl": {"layers": 1, "dim": 16, "heads": 2, "ffn": 32},
}


def language_model(name: str, **changes: object) -> nn.Module:
    implementation = registry.find(name)
    return implementation.load()(LANGUAGE, SIZES[name] | changes)


@pytest.mark.parametrize(
    ("name", "bias"), [("seqboat", False), ("mega-chunk", False), ("transformer-xl", True)]
)
def test_a_language_model_s_output_is_its_embedding(name: str, bias: bool) -> None:
    model = language_model(name)
    projection, encoder = model.get_submodule("projection"), model.get_submodule("encoder")
    assert projection.weight is encoder.embedding.weight
    assert (projection.bias is not None) == bias
    assert encoder.embedding_scale == 4.0
    # Both ends of the one matrix are trained.
    tokens = torch.randint(206, (1, 64))
    model(tokens)[..., 7].sum().backward()
    unseen = sorted(set(range(206)) - set(tokens.unique().tolist()) - {7})
    assert projection.weight.grad[7].abs().sum() > 0
    assert projection.weight.grad[tokens.unique()].abs().sum(dim=1).min() > 0
    assert projection.weight.grad[unseen].abs().max() == 0


def test_no_affine_after_the_last_layer() -> None:
    for name in ("seqboat", "mega-chunk"):
        model = language_model(name, norm="layernorm", prenorm=True, final_norm_affine=False)
        assert not list(model.get_submodule("encoder.final_norm").parameters())


@pytest.mark.parametrize(
    ("name", "task", "taps"),
    [
        ("seqboat", "enwik8", 2048),
        ("mega-chunk", "enwik8", 8192),
        ("mega-chunk", "speech", 1000),
        ("seqboat", "speech", 4000),
    ],
)
def test_published_kernels_are_cut(name: str, task: str, taps: int) -> None:
    assert registry.find(name).hyperparameters(task, "published")["truncation"] == taps


def test_a_real_number_starts_at_full_size() -> None:
    torch.manual_seed(0)
    embedding = RealEmbedding(4000)
    assert embedding.weight.std().item() == pytest.approx(1.0, rel=0.1)
    assert embedding.bias.std().item() == pytest.approx(0.1, rel=0.1)


def test_initial_values_are_cut_in_seqboat_alone() -> None:
    torch.manual_seed(0)
    beyond = {cut: (DampedEMA(500, 16, cut=cut).gamma.abs() > 2).any().item() for cut in (False, True)}
    assert beyond == {False: True, True: False}
    sizes = {"dim": 100, "layers": 1, "hidden": 200, "attention_dim": 8}
    seqboat = registry.find("seqboat").load()(LANGUAGE, sizes)
    mega = registry.find("mega").load()(LANGUAGE, sizes | {"ffn": 200})
    largest = [
        model.get_parameter(name).abs().max().item()
        for model, name in (
            (seqboat, "encoder.layers.0.mx_proj.weight"),
            (mega, "encoder.layers.0.mega_layer.mx_proj.weight"),
        )
    ]
    assert largest[0] <= 0.04 < largest[1]
    assert not math.isnan(sum(largest))


def test_the_classifier_s_hidden_layer_drops() -> None:
    head = MLPHead(4, 8, 2, dropout=1.0)
    representation = torch.randn(3, 4)
    assert not head(representation).any()
    assert head.eval()(representation).all()


@pytest.mark.parametrize("name", ["seqboat", "mega", "transformer", "luna-256"])
def test_the_recipe_s_dropout_reaches_the_classifier(name: str) -> None:
    implementation = registry.find(name)
    task = Task(name="text", length=64, classes=2, input="tokens", vocabulary=260)
    hyperparameters = implementation.hyperparameters("text", "published")
    model = implementation.load()(task, hyperparameters | {"layers": 1})
    assert model.get_submodule("head.dropout").p == hyperparameters.get("dropout", 0.1) > 0
