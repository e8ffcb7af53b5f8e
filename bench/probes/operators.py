"""What the operators of a step compute and move, stage by stage: FLOPs, bytes and live memory."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from bench.probes.tensor_bytes import TensorBytes

Key = tuple[tuple[str, ...], str]
"""A stage's path, and forward or backward."""

FFT_FLOPS = 5.0
"""N log2 N times this is the usual count of a complex transform; half of it for a real one."""


class OperatorCosts(TensorBytes):  # type: ignore[no-untyped-call]
    """Within this context, sums up the operators by stage; `where` says in which one the step is now."""

    def __init__(self, where: Callable[[], Key]) -> None:
        super().__init__()
        self.where = where
        self.flops: Counter[Key] = Counter()
        self.bytes: Counter[Key] = Counter()
        self.peaks: dict[Key, int] = {}
        self.timeline: list[tuple[int, Key]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        key = self.where()
        self.flops[key] += flops_of(func, args, kwargs or {}, result)
        self.bytes[key] += bytes_of(func, args, result)
        self.peaks[key] = max(self.peaks.get(key, 0), self.current)
        self.timeline.append((self.current, key))
        return result


def flops_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """FLOPs of one operator: products, convolutions and attention by torch's own formulas; transforms by
    5 N log2 N; pointwise arithmetic and sums by one an element (complex products six)."""
    formula = flop_registry.get(func._overloadpacket)
    if formula is not None:
        return int(formula(*args, **kwargs, out_val=result))
    name = func._overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, result)) if isinstance(leaf, Tensor)]
    if not tensors:
        return 0
    if "_fft_" in name:
        return _transform(name, args, result)
    if torch.Tag.pointwise in func.tags and isinstance(result, Tensor):
        each = 1 if not result.is_complex() else 6 if name.startswith(("mul", "div")) else 2
        return each * result.numel() if result.is_floating_point() or result.is_complex() else 0
    if torch.Tag.reduction in func.tags or name in ("cumsum", "cumprod"):
        return int(args[0].numel()) if isinstance(args[0], Tensor) and args[0].is_floating_point() else 0
    return 0


def _transform(name: str, args: tuple[Any, ...], result: Tensor) -> int:
    real = name != "_fft_c2c"
    whole = result if name == "_fft_c2r" else args[0]
    points = math.prod(whole.shape[dimension] for dimension in args[1])
    return int(FFT_FLOPS * whole.numel() * math.log2(max(points, 2)) * (0.5 if real else 1.0))


def bytes_of(func: Any, args: tuple[Any, ...], result: Any) -> int:
    """Bytes that one operator reads and writes; a view moves none."""
    if func.is_view or func._overloadpacket.__name__ in ("detach", "empty", "empty_like", "empty_strided"):
        return 0
    tensors = {id(leaf): leaf for leaf in tree_leaves((args, result)) if isinstance(leaf, Tensor)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
