"""Pairs of a plain model and its fused form on a GPU, and what each computes."""

import torch
from torch import Tensor, nn

from implementations.activation import calibrate, configurators
from implementations.kernels.backend import use_backend
from implementations.registry import find
from implementations.task import Task

BATCH, LENGTH = 4, 4096
TEXT = Task("text", length=LENGTH, classes=2, vocabulary=257)
SPEECH = Task("speech", length=LENGTH, classes=10, input="reals")


def pair(
    name: str, task: Task, rate: float, batch: int = BATCH, **changes: object
) -> tuple[nn.Module, nn.Module, Tensor]:
    """The plain model, the fused one with its parameters, and a batch that activates that share of it."""
    item = find(name)
    hyperparameters = {**item.hyperparameters(task.name), "dropout": 0.0, **changes}
    torch.manual_seed(0)
    assert item.reference is not None
    plain = find(item.reference).load()(task, hyperparameters).cuda()
    fused = item.load()(task, hyperparameters).cuda()
    if task.input == "reals":
        inputs = torch.randn(batch, task.length, device="cuda")
    else:
        inputs = torch.randint(1, task.vocabulary, (batch, task.length), device="cuda")
    if configurators(plain):
        calibrate(plain, inputs, None, rate)
    fused.load_state_dict(plain.state_dict())
    return plain, use_backend(fused, "triton"), inputs


def outcome(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    logits = model(inputs, None)
    logits.square().sum().backward()
    grads = {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach().double(), **grads}


def error_of(ours: Tensor, exact: Tensor) -> float:
    """`‖a − b‖ / ‖b‖`."""
    return float((ours - exact).norm() / exact.norm().clamp(min=1e-12))
