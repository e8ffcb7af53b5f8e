"""Models that go wrong in the ways that models do, as plug-ins: `fault_models:hanging` and so on."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn


class Tiny(nn.Module):
    """Mean of embeddings, one linear layer, and a fault before each forward pass."""

    def __init__(self, task, fault: Callable[[], object]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(task.vocabulary, 4)
        self.out = nn.Linear(4, task.classes)
        self.fault = fault

    def forward(self, inputs, lengths=None):
        self.fault()
        return self.out(self.embedding(inputs).mean(dim=1))


def tiny(task, hyperparameters):
    return Tiny(task, lambda: None)


def slow(task, hyperparameters):
    return Tiny(task, lambda: time.sleep(0.02))


def noisy(task, hyperparameters):
    return Tiny(task, lambda: print('{"type": "ran"}'))


def raising(task, hyperparameters):
    def fault():
        raise RuntimeError("the third\nlayer is upside down")

    return Tiny(task, fault)


def killed(task, hyperparameters):
    return Tiny(task, lambda: os.kill(os.getpid(), signal.SIGKILL))


def segfaulting(task, hyperparameters):
    return Tiny(task, lambda: os.kill(os.getpid(), signal.SIGSEGV))


def exiting(task, hyperparameters):
    def fault():
        os.write(2, b"lost the licence server\n")
        os._exit(7)

    return Tiny(task, fault)


def hanging(task, hyperparameters):
    return Tiny(task, lambda: time.sleep(1000))


def greedy(task, hyperparameters):
    return Tiny(task, lambda: torch.ones(1 << 45))


def nan(task, hyperparameters):
    model = Tiny(task, lambda: None)
    nn.init.constant_(model.out.weight, float("nan"))
    return model


def dies_in_a_block(task, hyperparameters):
    """Its first process (the solo pass) goes well, any later one dies at its first step."""
    marker = Path(os.environ["FAULT_MARKER"])
    if marker.exists():
        return killed(task, hyperparameters)
    marker.touch()
    return tiny(task, hyperparameters)


def wants_a_key(task, hyperparameters):
    return Tiny(task, hyperparameters["missing"])


def hungry(task, hyperparameters):
    """Takes memory without touching it, until it gets no more."""
    taken = []
    return Tiny(task, lambda: taken.extend(torch.empty(1 << 26) for _ in range(1 << 20)))


def hungry_for_bytes(task, hyperparameters):
    """The same without torch."""
    taken = []
    return Tiny(task, lambda: taken.extend(bytearray(1 << 28) for _ in range(1 << 20)))


def hungry_in_earnest(task, hyperparameters):
    """Takes memory and fills it, until somebody kills it."""
    taken = []
    return Tiny(task, lambda: taken.extend(torch.ones(1 << 24) for _ in range(1 << 20)))


class NextByte(nn.Module):
    """The next byte from this one alone."""

    def __init__(self, task) -> None:
        super().__init__()
        self.table = nn.Embedding(task.vocabulary, task.classes)

    def forward(self, inputs, lengths=None):
        return self.table(inputs)


def next_byte(task, hyperparameters):
    return NextByte(task)


def compiled(task, hyperparameters):
    """Runs as a graph; the backend that needs no compiler of C++ will do."""
    return torch.compile(tiny(task, hyperparameters), backend="aot_eager")
