"""What a forward pass keeps for the backward pass, as nested tuples; freed with the graph."""

from typing import Any

from torch import Tensor


def save(ctx: Any, tree: Any) -> None:
    """Keep a tree of tuples, named tuples and lists for `load`; its tensors go where autograd frees them."""
    tensors: list[Tensor] = []
    ctx.tree = _without_tensors(tree, tensors)
    ctx.save_for_backward(*tensors)


def load(ctx: Any) -> Any:
    """The tree that was saved. Raises RuntimeError where the graph has been freed."""
    return _with_tensors(ctx.tree, ctx.saved_tensors)


class _Slot(int):
    """Stands for a tensor in a saved tree."""


def _without_tensors(node: Any, tensors: list[Tensor]) -> Any:
    if isinstance(node, Tensor):
        tensors.append(node)
        return _Slot(len(tensors) - 1)
    return _rebuilt(node, [_without_tensors(child, tensors) for child in _children(node)])


def _with_tensors(node: Any, tensors: tuple[Tensor, ...]) -> Any:
    if isinstance(node, _Slot):
        return tensors[node]
    return _rebuilt(node, [_with_tensors(child, tensors) for child in _children(node)])


def _children(node: Any) -> Any:
    return node if isinstance(node, tuple | list) else ()


def _rebuilt(node: Any, children: list[Any]) -> Any:
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return type(node)(*children)
    return type(node)(children) if isinstance(node, tuple | list) else node
