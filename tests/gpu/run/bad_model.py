"""A model whose second step reads out of bounds on the device: its row must say so, and the others go on."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from implementations.task import Task

FAR_OUTSIDE = 1 << 30


class Bad(nn.Module):
    """Mean of embeddings and one linear layer, sound for one step."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.embedding, self.out = nn.Embedding(task.vocabulary, 16), nn.Linear(16, task.classes)
        self.calls = 0

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """tokens `(batch, length)`; logits `(batch, classes)`."""
        self.calls += 1
        x = self.embedding(tokens).mean(dim=1)
        if self.calls > 1:
            x = x + x.flatten()[torch.full((4,), FAR_OUTSIDE, device=x.device)].sum()
        logits: Tensor = self.out(x)
        return logits


def build(task: Task, hyperparameters: Mapping[str, Any]) -> nn.Module:
    return Bad(task)
