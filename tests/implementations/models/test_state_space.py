"""The frame of the state-space models: where its norms stand."""

import pytest
import torch
from torch import Tensor, nn

from implementations.models.state_space import ResidualBlock, backbone
from implementations.ops.norms import SequenceNorm
from implementations.task import Task

TEXT = Task("text", length=12, classes=3, vocabulary=20)


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
    model = backbone(TEXT, Double, layers=2, dim=6, norm="batchnorm", prenorm=prenorm, dropout=0.0)
    norms = [module for module in model.modules() if isinstance(module, SequenceNorm)]
    assert len(norms) == (3 if prenorm else 2)
    assert model(torch.randint(1, 20, (2, 12)), torch.tensor([12, 4])).shape == (2, 3)
