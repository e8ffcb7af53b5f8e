"""Models held in bfloat16: they run, forward and backward, and keep what has to stay exact."""

import pytest
import torch

from implementations import registry
from implementations.decoding import NoRecurrentForm
from implementations.embeddings import FairseqSinusoids, GreyEmbedding, Sinusoids
from implementations.ops.norms import SequenceNorm
from implementations.task import Grey

from .test_every_model import CLASSIFIERS, HEADS, LANGUAGE_MODELS, inputs_of, named, small


def trained_once(model, inputs) -> None:
    """A step of a model in bfloat16: finite logits and gradients."""
    model = model.bfloat16().train()
    logits = model(inputs)
    logits.float().square().sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@named(CLASSIFIERS)
def test_every_classifier_runs(item):
    trained_once(small(item, HEADS["text"]), inputs_of(HEADS["text"]))


@named(LANGUAGE_MODELS)
def test_every_language_model_runs(item):
    trained_once(small(item, HEADS["enwik8"]), inputs_of(HEADS["enwik8"]))


@pytest.mark.parametrize(
    "name", ["mega-fused", "mega-chunk-fused", "seqboat-fused", "mega", "seqboat", "s4", "h3"]
)
@pytest.mark.parametrize("norm", ["layernorm", "batchnorm"])
def test_each_norm_runs(name, norm):
    item = registry.find(name)
    values = item.hyperparameters("text", "small") | {"layers": 1, "norm": norm}
    model = item.load()(HEADS["text"], values)
    trained_once(model, inputs_of(HEADS["text"]))


@pytest.mark.parametrize("kind", [Sinusoids, FairseqSinusoids])
def test_late_positions_differ(kind):
    positions = kind(8).bfloat16()(600)
    assert not torch.equal(positions[300], positions[301])
    assert torch.equal(positions, kind(8)(600))


def test_every_grey_level_survives():
    grey = Grey(mean=0.48, deviation=0.24)
    embedding = GreyEmbedding(grey, 2)
    embedding.weight.data[:, 0] = torch.arange(256.0)
    values = ((torch.arange(256) / 255 - grey.mean) / grey.deviation).bfloat16()
    assert torch.equal(embedding(values)[:, 0], torch.arange(256.0))


def test_running_statistics_follow_states_in_float32():
    """As fused forms have them: states in float32 beside a norm held in bfloat16."""
    norm = SequenceNorm("batchnorm", 3).bfloat16().norm
    states = 5 + torch.randn(4, 3, 50)
    y = norm.over_channels(states)
    assert y.dtype == torch.float32
    assert y.mean().abs() < 1e-3
    assert norm.running_mean.dtype == torch.bfloat16
    assert torch.allclose(norm.running_mean.float(), 0.1 * states.mean(dim=(0, 2)), rtol=0.02)


@named(LANGUAGE_MODELS)
def test_every_recurrent_form_is_near_the_parallel_one(item):
    encoder = small(item, HEADS["enwik8"]).bfloat16().eval().get_submodule("encoder")
    tokens = inputs_of(HEADS["enwik8"])
    with torch.no_grad():
        try:
            _, state = encoder.prefill(tokens[:, :40], 64)
        except NoRecurrentForm:
            return
        states = encoder.step(tokens[:, 40], state, 40)
        expected = encoder(tokens)[0][:, 40]
    assert states.dtype == torch.bfloat16
    assert (states - expected).float().norm() < 0.05 * expected.float().norm()
