"""What the tests of Performer, Linformer, Luna, Reformer and BigBird share: tasks, batches, costs."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.probes.tensor_bytes import TensorBytes
from implementations.task import Task

Build = Callable[[Task, Mapping[str, Any]], nn.Module]

VOCABULARY = 20
HEADS = {"retrieval": "two-tower", "enwik8": "language-model"}


def task(name: str = "text", length: int = 64) -> Task:
    """A small task: classifier, two towers for retrieval, language model for enwik8, reals for images."""
    head: Any = HEADS.get(name, "classifier")
    reals = name in ("image", "pathfinder", "path_x")
    return Task(
        name,
        length,
        classes=VOCABULARY if head == "language-model" else 3,
        head=head,
        input="reals" if reals else "tokens",
        vocabulary=0 if reals else VOCABULARY,
    )


def tokens(*shape: int) -> Tensor:
    return torch.randint(1, VOCABULARY, shape, generator=torch.Generator().manual_seed(0))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def padding(lengths: list[int], length: int) -> Tensor:
    return torch.arange(length) >= torch.tensor(lengths)[:, None]


def seeded(build: Build, task: Task, hyperparameters: Mapping[str, Any], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(task, hyperparameters)


def padding_error(model: nn.Module, length: int, padded_length: int) -> float:
    """The most that a logit moves as a sequence is padded."""
    model = model.double().eval()
    inputs = tokens(1, length)
    padded = torch.cat([inputs, torch.zeros(1, padded_length - length, dtype=torch.int64)], dim=1)
    difference = model(inputs, torch.tensor([length])) - model(padded, torch.tensor([length]))
    return difference.abs().max().item()


def future_gradients(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`(length, length)`: size of each output's gradient by each later input, 0 elsewhere."""
    x = x.requires_grad_()
    y = function(x)
    rows = []
    for t in range(x.shape[1]):
        (gradient,) = torch.autograd.grad(y[:, t].square().sum(), x, retain_graph=True)
        assert gradient[:, : t + 1].abs().sum() > 0
        rows.append(gradient.abs().sum(dim=(0, 2)))
    return torch.stack(rows).triu(1)


def half_precision_is_close(build: Build, hyperparameters: Mapping[str, Any]) -> None:
    """Under automatic mixed precision logits move a little, and gradients stay finite."""
    model = seeded(build, task(length=100), hyperparameters)
    inputs, lengths = tokens(2, 100), torch.tensor([100, 70])
    exact = model(inputs, lengths)
    for dtype, bound in ((torch.bfloat16, 0.1), (torch.float16, 0.02)):
        with torch.autocast("cpu", dtype=dtype):
            logits = model(inputs, lengths).float()
        assert (logits - exact).norm() < bound * exact.norm()
        model.zero_grad()
        logits.square().sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


class Growth(NamedTuple):
    """What doubling the length multiplies."""

    peak_bytes: float
    flops: float


def growth(build: Build, hyperparameters: Mapping[str, Any], length: int, name: str = "text") -> Growth:
    """Growth of a training step's costs as the length doubles."""
    once, twice = (_cost(build, hyperparameters, length * times, name) for times in (1, 2))
    return Growth(twice[0] / once[0], twice[1] / once[1])


def _cost(build: Build, hyperparameters: Mapping[str, Any], length: int, name: str) -> tuple[float, float]:
    model = seeded(build, task(name, length), hyperparameters)
    inputs = tokens(1, length)
    with FlopCounterMode(display=False) as flops, TensorBytes() as memory:
        model(inputs).square().sum().backward()
    return memory.peak - memory.before, flops.get_total_flops()
