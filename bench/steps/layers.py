"""The layers of a model; some may keep their input only and be computed again in the backward pass."""

import contextlib
import functools
from collections.abc import Iterator

from torch import nn
from torch.utils.checkpoint import checkpoint


def layers_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Members of a model's lists of modules, by name; lists within lists too."""
    for name, layers in model.named_modules():
        if isinstance(layers, nn.ModuleList):
            for number, layer in layers.named_children():
                yield f"{name}.{number}", layer


def outermost_layers(model: nn.Module) -> list[nn.Module]:
    """The layers that lie in no other layer."""
    found = dict(layers_of(model))
    return [layer for name, layer in found.items() if not any(name.startswith(f"{one}.") for one in found)]


@contextlib.contextmanager
def recomputed(layers: list[nn.Module]) -> Iterator[None]:
    """Within this context, each of these keeps its input only, and computes again in the backward pass, with
    the random numbers that it had."""
    recompute(layers)
    try:
        yield
    finally:
        keep(layers)


def recompute(layers: list[nn.Module]) -> None:
    """Let each of these be computed again in the backward pass, until `keep`."""
    for layer in layers:
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)


def keep(layers: list[nn.Module]) -> None:
    """Undo `recompute`."""
    for layer in layers:
        del layer.forward
