"""Every implementation that has hyper-parameters for a workload's task takes its batches, at one layer."""

from dataclasses import replace

import pytest
import torch

from bench import workloads
from implementations import registry

LENGTH, BATCH = 256, 2
SHORTEST = {"path-x": 4096}
LARGEST_STATE = 64
PADDED = ("listops", "text", "retrieval")


def with_implementations(names):
    return [
        pytest.param(name, implementation, id=f"{name}-{implementation.name}")
        for name in names
        for implementation in registry.catalogue().values()
        if workloads.load(name).task(LENGTH).name in implementation.published
    ]


def takes(name, implementation, fill) -> None:
    workload = workloads.load(name)
    task = replace(workload.task(LENGTH), length=LENGTH)
    batch = workload.batch(SHORTEST.get(name, LENGTH), BATCH, fill, seed=0)
    inputs = torch.from_numpy(batch.inputs[..., :LENGTH].copy())
    lengths = None if batch.lengths is None else torch.from_numpy(batch.lengths)
    hyperparameters = {**implementation.hyperparameters(task.name), "layers": 1}
    if "state_dim" in hyperparameters:
        hyperparameters["state_dim"] = min(hyperparameters["state_dim"], LARGEST_STATE)
    torch.manual_seed(0)
    model = implementation.load()(task, hyperparameters).eval()
    with torch.no_grad():
        logits = model(inputs, lengths)
    shape = (BATCH, LENGTH, task.classes) if task.head == "language-model" else (BATCH, task.classes)
    assert logits.shape == shape
    assert logits.isfinite().all()


@pytest.mark.parametrize(("name", "implementation"), with_implementations(workloads.WORKLOADS))
def test_takes_full_batches(name, implementation):
    takes(name, implementation, "full")


@pytest.mark.parametrize(("name", "implementation"), with_implementations(PADDED))
def test_takes_padded_batches(name, implementation):
    takes(name, implementation, "real")
