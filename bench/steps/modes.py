"""Modes of a step: op by op, compiled, with layers computed again, or as one CUDA graph."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
import torch._dynamo
from torch import nn

from bench.records.solo import Compilation
from bench.steps import graphs
from bench.steps.layers import keep, outermost_layers, recompute
from bench.steps.step import Step

COMPILER = "inductor"
"""Torch's own."""
MOST_COMPILING = 8
"""Steps after the first that may compile; torch gives up by then, and computes op by op."""
GIVEN_UP = "Dynamo recompile limit exceeded"
"""Beginning of the words by which torch gives up a function."""


class NotInThisMode(NotImplementedError):
    """A step that can't be carried out in a mode; the message says why."""


def enter(step: Step) -> None:
    """Carry a step out in its case's mode from now on. Raises NotInThisMode."""
    mode = step.case.mode
    if mode == "eager":
        return
    if step.case.phase == "decode":
        raise NotInThisMode(f"mode {mode}: a stretch of tokens is not one step; it is for train and forward")
    if mode == "compile":
        step.model.compile(backend=COMPILER)
        return
    if step.case.phase != "train":
        raise NotInThisMode(f"mode {mode}: it is for the phase train, which has a backward pass")
    if mode == "checkpoint":
        recompute(_layers(step))
        return
    step.run = _captured(step)


@contextlib.contextmanager
def left(step: Step) -> Iterator[None]:
    """Within this context the step's model computes op by op, whatever its mode."""
    mode = step.case.mode
    compiled = step.model._compiled_call_impl
    if mode == "compile":
        step.model._compiled_call_impl = None
    elif mode == "checkpoint":
        keep(_layers(step))
    elif mode == "graph":
        step.run = step.plain_run
    try:
        yield
    finally:
        if mode == "compile":
            step.model._compiled_call_impl = compiled
        elif mode == "checkpoint":
            recompute(_layers(step))
        elif mode == "graph":
            # Gradients and the optimiser's state may lie elsewhere now.
            step.run = _captured(step)


def compile_now(step: Step, *, cold: bool) -> Compilation:
    """Make steps of a compiled model until one compiles nothing: the first does, and some later ones may.

    cold: whether nothing that was kept of earlier compilations is used for the first.
    """
    from torch._dynamo.utils import counters

    counters["graph_break"].clear()
    counters["unimplemented"].clear()
    with _nothing_kept() if cold else contextlib.nullcontext():
        seconds = step.timed(1).seconds
    for _ in range(MOST_COMPILING):
        before = counters["frames"]["total"]
        step.timed(1)
        if counters["frames"]["total"] == before:
            break
    given_up = sum(n for reason, n in counters["unimplemented"].items() if reason.startswith(GIVEN_UP))
    breaks = counters["graph_break"].total()
    return Compilation(first_step_seconds=seconds, graph_breaks=breaks, given_up=given_up)


@contextlib.contextmanager
def compiled_anew() -> Iterator[None]:
    """Within this context a model is compiled again: after somebody has watched a step, torch computes op by
    op without a word. Raises NotInThisMode if nothing was compiled."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    before = counters["frames"]["ok"]
    yield
    if counters["frames"]["ok"] == before:
        raise NotInThisMode("mode compile: torch compiles nothing of this model")


def _nothing_kept() -> AbstractContextManager[None]:
    """A context in which the compiler finds nothing that it compiled before."""
    if COMPILER != "inductor":
        return contextlib.nullcontext()
    from torch._inductor.utils import fresh_cache

    return fresh_cache()


def _layers(step: Step) -> list[nn.Module]:
    layers = outermost_layers(step.model)
    if not layers:
        raise NotInThisMode("mode checkpoint: the model has no list of layers (a torch.nn.ModuleList)")
    return layers


def _captured(step: Step) -> graphs.Run:
    try:
        return graphs.captured(step, graphs.graph_for(step.device))
    except graphs.NotCaptured as error:
        raise NotInThisMode(f"mode graph: {error}") from None
