"""Values that a forward pass keeps for the backward pass, as nested tuples; freed with the graph."""

from typing import Any

from torch import Tensor


def save(ctx: Any, tree: Any) -> None:
    """Keep a tree of tuples, named tuples and lists for `load`; its tensors go where autograd frees them."""
    tensors: list[Tensor] = []
    ctx.tree = _without_tensors(tree, tensors)
    ctx.save_for_backward(*tensors)


def load(ctx: Any) -> Any:
    """The tree that was saved. Raises RuntimeError if the graph has been freed."""
    return _with_tensors(ctx.tree, ctx.saved_tensors)


class _Slot(int):
    """Placeholder of a tensor in a saved tree."""


def _without_tensors(node: Any, tensors: list[Tensor]) -> Any:
    children = []
    for child in node:
        if isinstance(child, Tensor):
            tensors.append(child)
            child = _Slot(len(tensors) - 1)
        elif isinstance(child, tuple | list):
            child = _without_tensors(child, tensors)
        children.append(child)
    return _rebuilt(node, children)


def _with_tensors(node: Any, tensors: tuple[Tensor, ...]) -> Any:
    children = []
    for child in node:
        if isinstance(child, _Slot):
            child = tensors[child]
        elif isinstance(child, tuple | list):
            child = _with_tensors(child, tensors)
        children.append(child)
    return _rebuilt(node, children)


def _rebuilt(node: Any, children: list[Any]) -> Any:
    return type(node)(*children) if hasattr(node, "_fields") else type(node)(children)
