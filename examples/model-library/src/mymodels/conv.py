"""A convolution over embeddings."""

from torch import nn

LAYERS = 1


class Convolution(nn.Module):
    def __init__(self, task, dim=32):
        super().__init__()
        self.embedding = nn.Embedding(task.vocabulary, dim)
        self.layers = nn.ModuleList(nn.Conv1d(dim, dim, kernel_size=7, padding=3) for _ in range(LAYERS))
        self.out = nn.Linear(dim, task.classes)

    def forward(self, tokens, lengths=None):  # (batch, length), (batch,) or None if all is real
        hidden = self.embedding(tokens).mT
        for layer in self.layers:
            hidden = layer(hidden).relu()
        return self.out(hidden.mean(dim=-1))


def build(task, hyperparameters):
    return Convolution(task, **hyperparameters)
