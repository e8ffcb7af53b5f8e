"""Faults to plant in fused layers, each as small as the one that a kernel's author would overlook.

A plant is a context: within it, every layer of a class computes something a little else. Layers are changed
from outside, by their parameters, arguments, configuration and result, so that one table serves all systems.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Plant = Callable[[type[nn.Module]], contextlib.AbstractContextManager[None]]
Change = Callable[[Tensor], Tensor]


def gradient(factor: float) -> Change:
    """The same value, with its gradient times a factor."""
    return lambda value: value.detach() + (value - value.detach()) * factor


def zero(value: Tensor) -> Tensor:
    return value * 0.0


def first_row(factor: float) -> Change:
    """A change of scales or offsets `(2, dim)` of queries and keys: those of the queries times a factor."""

    def change(value: Tensor) -> Tensor:
        return value * value.new_tensor([[factor], [1.0]])

    return change


def parameters(change: Change, *names: str, first_layer: bool = False) -> Plant:
    """Parameters changed before they are used; every name must be found in the layer."""

    @contextlib.contextmanager
    def changed(layer: nn.Module) -> Iterator[None]:
        places = []
        for name in names:
            path, _, leaf = name.rpartition(".")
            places.append((layer.get_submodule(path)._parameters, leaf))
        values = [holder[leaf] for holder, leaf in places]
        for (holder, leaf), value in zip(places, values, strict=True):
            holder[leaf] = change(value)  # type: ignore[assignment,arg-type]
        try:
            yield
        finally:
            for (holder, leaf), value in zip(places, values, strict=True):
                holder[leaf] = value

    def call(layer: Any, forward: Any, x: Tensor, mask: Tensor | None) -> Tensor:
        with changed(layer):
            return forward(layer, x, mask)

    return _wrapping(call, first_layer)


def result(change: Change) -> Plant:
    """What a layer gives, `(batch, length, dim)`, changed."""
    return _wrapping(lambda layer, forward, x, mask: change(forward(layer, x, mask)))


def at(index: Any, change: Change) -> Change:
    """A change of one place alone."""

    def changed(y: Tensor) -> Tensor:
        y = y.clone()
        y[index] = change(y[index].clone())
        return y

    return changed


def last_position(change: Change) -> Plant:
    """The last real position of every row changed."""

    def call(layer: Any, forward: Any, x: Tensor, mask: Tensor | None) -> Tensor:
        y = forward(layer, x, mask)
        if mask is None:
            return at((slice(None), -1), change)(y)
        rows = torch.arange(len(x))
        return at((rows, (~mask).sum(dim=1) - 1), change)(y)

    return _wrapping(call)


def times(factor: float) -> Change:
    return lambda value: value * factor


def ignoring_padding() -> Plant:
    return _wrapping(lambda layer, forward, x, mask: forward(layer, x, None))


def halved(option: str) -> Plant:
    """A size of the configuration halved."""

    def call(layer: Any, forward: Any, x: Tensor, mask: Tensor | None) -> Tensor:
        config = layer.config
        layer.config = dataclasses.replace(config, **{option: getattr(config, option) // 2})
        try:
            return forward(layer, x, mask)
        finally:
            layer.config = config

    return _wrapping(call)


def _wrapping(call: Callable[..., Tensor], first_layer: bool = False) -> Plant:
    @contextlib.contextmanager
    def plant(layer_class: type[nn.Module]) -> Iterator[None]:
        forward = layer_class.forward
        called: list[nn.Module] = []

        def planted(self: nn.Module, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
            called.append(self)
            if first_layer and self is not called[0]:
                return forward(self, x, padding_mask)
            return call(self, forward, x, padding_mask)

        layer_class.forward = planted  # type: ignore[method-assign]
        try:
            yield
        finally:
            layer_class.forward = forward  # type: ignore[method-assign]

    return plant


SCORES: dict[str, Plant] = {
    "attention ignores queries and keys": parameters(zero, "gamma", "beta"),
    "queries x 1.5": parameters(first_row(1.5), "gamma", "beta"),
    "gradient of gamma dropped": parameters(gradient(0.0), "gamma"),
    "gradient of gamma flipped": parameters(gradient(-1.0), "gamma"),
    "gradient of beta dropped": parameters(gradient(0.0), "beta"),
    "gradient of beta flipped": parameters(gradient(-1.0), "beta"),
    "relative bias dropped": parameters(zero, "rel_pos_bias.rel_pos_bias"),
    "gradient of the relative bias dropped": parameters(gradient(0.0), "rel_pos_bias.rel_pos_bias"),
}
PROJECTIONS: dict[str, Plant] = {
    "gradient of h_proj x 1.01": parameters(gradient(1.01), "h_proj.weight"),
    "gradient of mx_proj x 1.01": parameters(gradient(1.01), "mx_proj.weight"),
    "gradient of h_proj x 1.01 in the first layer": parameters(
        gradient(1.01), "h_proj.weight", first_layer=True
    ),
    "gradient of mx_proj x 1.01 in the first layer": parameters(
        gradient(1.01), "mx_proj.weight", first_layer=True
    ),
    "gradient of mx_proj's bias dropped": parameters(gradient(0.0), "mx_proj.bias"),
    "bias of mx_proj dropped": parameters(zero, "mx_proj.bias"),
    "bias of h_proj dropped": parameters(zero, "h_proj.bias"),
}
POSITIONS: dict[str, Plant] = {
    "last position x 1.01": last_position(times(1.01)),
    "last position x 1.1": last_position(times(1.1)),
    "last position 0": last_position(zero),
    "gradient of the last position dropped": last_position(gradient(0.0)),
    "second row x 1.01": result(at(slice(1, 2), times(1.01))),
    "padding ignored": ignoring_padding(),
    "result x 1.001": result(times(1.001)),
    "a channel x 1.01": result(at((..., 1), times(1.01))),
}
ROUTER: dict[str, Plant] = {
    "temperature dropped": parameters(zero, "configurator.temp"),
    "gradient of the temperature dropped": parameters(gradient(0.0), "configurator.temp"),
    "gradient of the temperature flipped": parameters(gradient(-1.0), "configurator.temp"),
    "bias of hx_proj dropped": parameters(zero, "hx_proj.bias"),
}
EVERY = SCORES | PROJECTIONS | POSITIONS
BY_SYSTEM: dict[str, dict[str, Plant]] = {
    "seqboat-fused": EVERY | ROUTER | {"window halved": halved("window")},
    "seqboat-full-fused": EVERY | ROUTER,
    "mega-fused": EVERY | {"bias of v_proj dropped": parameters(zero, "v_proj.bias")},
    "mega-chunk-fused": EVERY
    | {"bias of v_proj dropped": parameters(zero, "v_proj.bias"), "chunk halved": halved("chunk")},
}
