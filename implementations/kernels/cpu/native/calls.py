"""Kernels in C as operators of torch, in the namespace `seqboat`; the modules beside define them.

So the profiler names them, and what counts operators, FLOPs and memory sees them and their results. They take
tensors of one precision, float32 or float64, on the CPU; `usable` says whether they may be called.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from implementations.kernels.cpu.native import library
from implementations.ops.sizes import expected

Operator = Callable[..., Any]

_library = torch.library.Library("seqboat", "DEF")  # type: ignore[no-untyped-call]
_called: set[str] = set()
"""Kernels that have been called in this process."""
STEPS_OF_A_PART = 256
"""Steps at least that are worth a thread."""
_PRECISIONS = {torch.float32: "float", torch.float64: "double"}


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels may be called on these tensors, and a library is there.

    Tensors without values, where sizes are expected and not read, go through the operators too.
    """
    if torch.compiler.is_compiling() or not all(map(_is_fit, tensors)):
        return False
    return library.library() is not None


def _is_fit(x: Tensor) -> bool:
    plain = type(x) in (Tensor, nn.Parameter) or expected() is not None
    return plain and x.device.type == "cpu" and x.dtype in _PRECISIONS


def computed_by() -> str:
    """Kernels that have computed fused layers on the CPU in this process."""
    alone = bool(_called) and torch.get_num_threads() > 1 and library.is_alone()
    return library.computed_by(bool(_called)) + (
        ", on one thread: torch's OpenMP was not found" if alone else ""
    )


def draw_seed(dropout: float) -> int:
    """Seed of a kernel's dropout, from torch's global generator; 0 without dropout."""
    seed = torch.randint(1 << 62, ()) if dropout else None
    return 0 if seed is None or expected() is not None else int(seed)


def operator(schema: str, flops: Callable[..., int]) -> Callable[[Operator], Operator]:
    """Define an operator; flops: of shapes in place of the tensors of the schema."""
    name = schema.partition("(")[0]

    def define(function: Operator) -> Operator:
        _library.define(schema)  # type: ignore[no-untyped-call]
        for device in ("CPU", "Meta"):
            _library.impl(name, function, device)  # type: ignore[no-untyped-call]
        packet = getattr(torch.ops.seqboat, name)
        register_flop_formula(packet)(lambda *shapes, **_: flops(*shapes))
        return packet.default  # type: ignore[no-any-return]

    return define


def call(name: str, x: Tensor, *arguments: Any) -> None:
    """Call a kernel in the precision of x, unless x has no values.

    Tensors are given as addresses, None as a null pointer, numbers as they are; the threads come last.
    """
    if x.device.type == "meta":
        return
    _called.add(name)
    function: Any = library.kernel(f"{name}_{_PRECISIONS[x.dtype]}")
    if function.argtypes is None:
        function.argtypes = [*map(_type_of, arguments), ctypes.c_long]
    values = [value.data_ptr() if isinstance(value, Tensor) else value for value in arguments]
    function(*values, torch.get_num_threads())


def parts_of(steps: int) -> int:
    """Parts that so many steps are worked on in, each with its own sums: one per thread if they are many."""
    return min(torch.get_num_threads(), 1 + steps // STEPS_OF_A_PART)


def summed(parts: Tensor) -> Tensor:
    """The sum of parts `(parts, …)`."""
    return parts[0] if len(parts) == 1 else parts.sum(dim=0)


def _type_of(argument: Any) -> Any:
    """In C, of each call's argument in this place."""
    if argument is None or isinstance(argument, Tensor):
        return ctypes.c_void_p
    return ctypes.c_double if isinstance(argument, float) else ctypes.c_int64
