"""A whole training step as one CUDA graph: captured once, replayed in every step."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

from bench.steps.step import Step
from bench.system.out_of_memory import is_out_of_memory
from implementations import activation
from implementations.ops import sizes

WARM_UP_STEPS = 3
"""Steps on a stream of their own before the capture, as torch asks for."""
HEADROOM = 1.2
"""Room for active steps over the most that a few steps had: dropout moves them from step to step."""
MORE_ROOM = 16
"""Active steps of a row beyond that."""

Run = Callable[[], Tensor]


class NotCaptured(Exception):
    """A step that no graph holds; the message says why."""


class Graph(Protocol):
    """Holds the work of a device."""

    def warming_up(self) -> AbstractContextManager[None]:
        """Context for steps that fill caches before the capture."""

    def capturing(self) -> AbstractContextManager[None]:
        """Context in which the device's work is kept instead of done."""

    def replay(self) -> None:
        """Do it."""


class CudaGraph:
    """A graph of torch's, on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.graph = torch.cuda.CUDAGraph()

    @contextlib.contextmanager
    def warming_up(self) -> Iterator[None]:
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            yield
        torch.cuda.current_stream(self.device).wait_stream(stream)

    @contextlib.contextmanager
    def capturing(self) -> Iterator[None]:
        with torch.cuda.device(self.device), torch.cuda.graph(self.graph):
            yield

    def replay(self) -> None:
        self.graph.replay()


def graph_for(device: torch.device) -> Graph:
    """Raises NotCaptured if the device has none."""
    if device.type != "cuda":
        raise NotCaptured(f"CUDA graphs need a CUDA device, and this is {device.type}")
    return CudaGraph(device)


def captured(step: Step, graph: Graph) -> Run:
    """The training step of a case, captured: weights, gradients, batch and loss stay where they are.

    A model with configurators gets room for as many active steps as it had, and some; a step that has more is
    an error, which the device raises. Raises NotCaptured if the step waits for the device, or does
    what a graph can't hold.
    """
    eager, optimizer = step.plain_run, step.new_optimizer(capturable=True)
    step.optimizer = optimizer
    share = _capacity(step)
    with _room(share):
        with graph.warming_up():
            for _ in range(WARM_UP_STEPS):
                eager()
        optimizer.zero_grad(set_to_none=True)
        with _refusals(), graph.capturing():
            loss = eager()

    # The graph writes into the optimiser's state, which has to live as long.
    def run(kept: object = optimizer) -> Tensor:
        graph.replay()
        return loss

    return run


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Errors of a capture as NotCaptured; a fault of the device and a full one stay as they are."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        faulty = isinstance(error, torch.AcceleratorError) and "captur" not in str(error)
        if faulty or is_out_of_memory(error):
            raise
        raise NotCaptured(f"the step can't be captured: {' '.join(str(error).split())[:200]}") from None


def _capacity(step: Step) -> float | None:
    """The largest share of active steps in a row, with headroom; None for a model without configurators."""
    found = activation.configurators(step.model)
    if not found:
        return None
    if not all(hasattr(one, "activation_rates_by_sample") for one in found):
        raise NotCaptured("its configurators do not tell how many steps of a row are active")
    most = 0.0
    for _ in range(WARM_UP_STEPS):
        step.plain_run()
        most = max(most, *(rate for one in found for rate in one.activation_rates_by_sample()))
    return min(1.0, HEADROOM * most + MORE_ROOM / step.case.length)


def _room(share: float | None) -> AbstractContextManager[None]:
    return contextlib.nullcontext() if share is None else sizes.within_capacity(share)
