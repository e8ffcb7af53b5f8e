"""The frame of the state-space models: its norms, its padding, its two documents."""

import pytest
import torch
from torch import Tensor, nn

from implementations.models.state_space import BackboneConfig, ResidualBlock, backbone, embedding
from implementations.ops.norms import SequenceNorm
from implementations.task import Task

TEXT = Task("text", length=12, classes=3, vocabulary=20)
RETRIEVAL = Task("retrieval", length=12, classes=2, head="two-tower", vocabulary=20)


class Double(nn.Module):
    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        return 2 * x


def test_residual_block_places_its_norm() -> None:
    x = torch.randn(2, 5, 6)
    norm = nn.LayerNorm(6)
    pre = ResidualBlock(Double(), 6, "layernorm", prenorm=True, dropout=0.0)
    post = ResidualBlock(Double(), 6, "layernorm", prenorm=False, dropout=0.0)
    torch.testing.assert_close(pre(x, None), x + 2 * norm(x))
    torch.testing.assert_close(post(x, None), norm(3 * x))


@pytest.mark.parametrize("prenorm", [True, False])
def test_backbone_ends_in_a_norm_where_its_blocks_begin_with_one(prenorm: bool) -> None:
    model = backbone(TEXT, BackboneConfig(layers=2, dim=6, prenorm=prenorm), [Double(), Double()])
    norms = [module for module in model.modules() if isinstance(module, SequenceNorm)]
    assert len(norms) == (3 if prenorm else 2)
    assert model(torch.randint(1, 20, (2, 12)), torch.tensor([12, 4])).shape == (2, 3)


class Zeroed(nn.Module):
    """A layer that hides padding, as S4's does."""

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        return x if padding_mask is None else x.masked_fill(padding_mask.unsqueeze(-1), 0.0)


def test_padding_enters_the_batch_statistics_as_its_own_embedding() -> None:
    """So in the official code; once the statistics stand, no logit depends on it."""
    torch.manual_seed(0)
    model = backbone(TEXT, BackboneConfig(layers=2, dim=6), [Zeroed(), Zeroed()])
    inputs = torch.randint(1, 20, (2, 12))
    inputs[1, 4:] = 0
    lengths = torch.tensor([12, 4])
    logits = model(inputs, lengths)
    with torch.no_grad():
        model.pool.encoder.embedding.weight[0] += 1
    assert not torch.allclose(model(inputs, lengths), logits)
    evaluated = model.eval()(inputs, lengths)
    with torch.no_grad():
        model.pool.encoder.embedding.weight[0] += 1
    torch.testing.assert_close(model(inputs, lengths), evaluated)


def test_two_documents_share_their_batch_statistics() -> None:
    torch.manual_seed(0)
    model = backbone(RETRIEVAL, BackboneConfig(layers=1, dim=6), [Double()]).train()
    inputs = torch.randint(1, 20, (3, 2, 12))
    norm = model.pool.encoder.layers[0].norm
    seen: list[tuple[int, ...]] = []
    norm.register_forward_hook(lambda _, inputs, __: seen.append(tuple(inputs[0].shape)))
    logits = model(inputs)
    assert seen == [(6, 12, 6)]
    states = model.pool(inputs.transpose(0, 1).flatten(0, 1), None)
    torch.testing.assert_close(logits, model.classify(*states.chunk(2)))


def test_embeddings_start_as_torch_has_them() -> None:
    torch.manual_seed(0)
    tokens = embedding(Task("text", length=4, classes=2, vocabulary=500), 100)
    assert 0.95 < tokens.weight.std() < 1.05
    reals = embedding(Task("image", length=4, classes=2, input="reals"), 1000)
    assert 0.9 < reals.weight.abs().max() <= 1
    assert 0.9 < reals.bias.abs().max() <= 1
