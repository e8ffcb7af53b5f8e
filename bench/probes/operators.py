"""Costs of a step's operators, stage by stage: FLOPs, bytes and live memory."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from bench.probes.tensor_bytes import TensorBytes
from bench.records.solo import Exact

Key = tuple[tuple[str, ...], str]
"""A stage's path, and forward or backward."""

WHOLE_STEP: Key = ((), "step")

FFT_FLOPS = 5.0
"""N log2 N times this is the usual count of a complex transform; half of it for a real one."""

NORMALISING_FLOPS = 5
"""An element of a softmax or a norm: largest or mean, difference, exponential or square, sum, product."""
NORMALISING = ("_softmax", "_log_softmax", "native_layer_norm", "native_batch_norm", "_fused_rms_norm")
VECTOR_PRODUCTS = ("mv", "addmv", "dot", "addr", "ger")
OWN_NAMESPACES = ("aten", "prim", "prims", "profiler")
"""Operators of torch itself: what has no formula among them computes nothing, but moves."""
COPIES = ("clone", "copy")
MAKE_NOTHING = (
    "detach",
    "_unsafe_view",
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
)
ONLY_WRITE = ("copy_", "fill_", "zero_", "normal_", "uniform_", "bernoulli_", "exponential_", "random_")
GATHERS = ("index_select", "index", "gather", "embedding")
SCATTERS = {"index_add_": 2, "index_copy_": 1}
"""Number of times that each touches the elements that it picks."""


class OperatorCosts(TensorBytes):  # type: ignore[no-untyped-call]
    """Within this context, sums up the operators by stage; `where` says in which one an operator runs."""

    def __init__(self, where: Callable[[str], Key], live: Iterable[Tensor] = ()) -> None:
        super().__init__(live)
        self.where = where
        self.flops: Counter[Key] = Counter()
        self.bytes: Counter[Key] = Counter()
        self.peaks: dict[Key, int] = {}
        self.timeline: list[tuple[int, Key]] = []
        self.uncounted: set[str] = set()
        """Operators of other libraries, which torch has no formula for."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if result is NotImplemented:
            return result
        key = self.where(func._overloadpacket.__name__)
        if func.namespace not in OWN_NAMESPACES and _formula(func) is None:
            self.uncounted.add(f"{func.namespace}::{func._overloadpacket.__name__}")
        self.flops[key] += flops_of(func, args, kwargs or {}, result)
        self.bytes[key] += bytes_of(func, args, result)
        self.peaks[key] = max(self.peaks.get(key, 0), self.current)
        self.timeline.append((self.current, key))
        return result


def count(
    step: Callable[[], object], model: nn.Module, live: Callable[[], Iterable[Tensor]] = tuple
) -> Exact:
    """Costs of a step that need no clock, the same on every run of the same code.

    Runs the step twice: to settle, and to watch its operators and their memory. live: the tensors that are
    there before the second one.
    """
    step()
    with OperatorCosts(lambda _: WHOLE_STEP, live()) as costs:
        step()
    return Exact(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        flops=costs.flops[WHOLE_STEP],
        tensor_bytes=costs.peak,
        operators=costs.operators,
    )


def flops_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """FLOPs of one operator: products, convolutions and attention by torch's own formulas; transforms by
    5 N log2 N; softmax and norms by five an element; pointwise arithmetic and sums by one an element (complex
    products six)."""
    name = func._overloadpacket.__name__
    formula = _formula(func)
    if formula is not None:
        return int(formula(*args, **kwargs, out_val=result))
    if "_fft_" in name:
        return _transform(name, args, result)
    tensors = _tensors((args, result))
    if name.rstrip("_") in VECTOR_PRODUCTS:
        return 2 * max(tensor.numel() for tensor in tensors)
    if name.startswith(NORMALISING):
        return NORMALISING_FLOPS * int(args[0].numel())
    if name.startswith("_foreach_"):
        return sum(tensor.numel() for tensor in _tensors(args[0]) if tensor.is_floating_point())
    if torch.Tag.pointwise in func.tags and isinstance(result, Tensor) and name not in COPIES:
        each = 1 if not result.is_complex() else 6 if name.startswith(("mul", "div", "addcmul")) else 2
        return each * result.numel() if result.is_floating_point() or result.is_complex() else 0
    if torch.Tag.reduction in func.tags or name in ("cumsum", "cumprod"):
        return int(args[0].numel()) if isinstance(args[0], Tensor) and args[0].is_floating_point() else 0
    return 0


def is_product(func: Any) -> bool:
    """Whether an operator is made of matrix products, which a GPU has units of their own for."""
    return _formula(func) is not None or func._overloadpacket.__name__.rstrip("_") in VECTOR_PRODUCTS


def _formula(func: Any) -> Any:
    """Torch's formula, which it has neither for products in place nor for the CPU's fused attention."""
    packet = func._overloadpacket
    found = flop_registry.get(packet)
    if found is None:
        plain = packet.__name__.rstrip("_").replace("_for_cpu", "")
        found = flop_registry.get(getattr(torch.ops.aten, plain, None))
    return found


def _transform(name: str, args: tuple[Any, ...], result: Tensor) -> int:
    real = name != "_fft_c2c"
    whole = result if name == "_fft_c2r" else args[0]
    points = math.prod(whole.shape[dimension] for dimension in args[1])
    return int(FFT_FLOPS * whole.numel() * math.log2(max(points, 2)) * (0.5 if real else 1.0))


def bytes_of(func: Any, args: tuple[Any, ...], result: Any) -> int:
    """Bytes that one operator reads and writes: what changes in place counts twice; a view moves none, and
    a gather or scatter only the elements that it picks."""
    name = func._overloadpacket.__name__
    if func.is_view or name in MAKE_NOTHING:
        return 0
    if name in GATHERS:
        return _bytes(args[1:]) + 2 * _bytes(result)
    if name in SCATTERS:
        return _bytes(args[1:]) + SCATTERS[name] * _bytes(args[3])
    return _bytes(args[1:] if name in ONLY_WRITE else args) + _bytes(result)


def _bytes(values: Any) -> int:
    """Bytes of the distinct tensors in some values."""
    tensors = {id(tensor): tensor for tensor in _tensors(values)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
