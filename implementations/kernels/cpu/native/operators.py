"""The C kernels as operators of torch, in the namespace `seqboat`.

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
    return library.computed_by(bool(_called))


def draw_seed(dropout: float) -> int:
    """Seed of a kernel's dropout, from torch's global generator; 0 without dropout."""
    seed = torch.randint(1 << 62, ()) if dropout else None
    return 0 if seed is None or expected() is not None else int(seed)


def _operator(schema: str, flops: Callable[..., int]) -> Callable[[Operator], Operator]:
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


def _call(name: str, x: Tensor, *arguments: Any) -> None:
    """Call a kernel in the precision of x, unless x has no values.

    Tensors are given as addresses, None as a null pointer, numbers as they are; the threads come last.
    """
    if x.device.type == "meta":
        return
    _called.add(name)
    function = getattr(library.library(), f"{name}_{_PRECISIONS[x.dtype]}")
    function(*map(_argument, arguments), ctypes.c_long(torch.get_num_threads()))


def _argument(value: Any) -> Any:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, float):
        return ctypes.c_double(value)
    return ctypes.c_void_p(None) if value is None else ctypes.c_int64(value)


@_operator(
    "silu(Tensor x, float dropout, int seed) -> Tensor",
    lambda x, *_: x.numel(),
)
def silu(x: Tensor, dropout: float, seed: int) -> Tensor:
    """Dropout of silu of x, contiguous."""
    y = torch.empty_like(x)
    _call("silu", x, y, x, x.numel(), dropout, seed)
    return y


@_operator(
    "ema_forward(Tensor x, Tensor? padded, Tensor weight, Tensor decay, Tensor omega, bool activated,"
    " float dropout, int seed) -> (Tensor, Tensor)",
    lambda x, padded, weight, *_: 4 * weight.numel() * x[1:].numel(),
)
def ema_forward(
    x: Tensor,
    padded: Tensor | None,
    weight: Tensor,
    decay: Tensor,
    omega: Tensor,
    activated: bool,
    dropout: float,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """The average of x `(dim, rows, length)`, whose rows are contiguous, and dropout of silu of it.

    padded: `(rows, length)` boolean, contiguous; weight, decay `(directions·dim, states)`; omega `(dim,)`.
    The second tensor is empty if the average is not to be activated.
    """
    average = x.new_empty(x.shape)
    mixed = x.new_empty(x.shape if activated else 0)
    _call(
        "ema_forward",
        x,
        *(x, x.stride(0), padded, weight, decay, omega, average, mixed if activated else None),
        *(*_sizes(x, weight), dropout, seed),
    )
    return average, mixed


@_operator(
    "ema_backward(Tensor(a!) grad, Tensor? average, Tensor x, Tensor? padded, Tensor weight, Tensor decay,"
    " Tensor omega, Tensor(b!) grad_x, bool add, float dropout, int seed) -> (Tensor, Tensor, Tensor)",
    lambda grad, average, x, padded, weight, *_: 10 * weight.numel() * x[1:].numel(),
)
def ema_backward(
    grad: Tensor,
    average: Tensor | None,
    x: Tensor,
    padded: Tensor | None,
    weight: Tensor,
    decay: Tensor,
    omega: Tensor,
    grad_x: Tensor,
    add: bool,
    dropout: float,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of weight, the decay's logarithm and omega; that of x is written or added to grad_x.

    grad: that of the activated average, contiguous, which becomes that of the average itself. average: None
    if it was not activated. x and grad_x have contiguous rows.
    """
    parts = min(x.shape[1], torch.get_num_threads())
    grad_weight, grad_log_decay = (x.new_zeros(parts, *weight.shape) for _ in range(2))
    grad_omega = x.new_zeros(parts, len(omega))
    _call(
        "ema_backward",
        x,
        *(grad, average, x, x.stride(0), padded, weight, decay, omega, grad_x, grad_x.stride(0), int(add)),
        *(grad_weight, grad_log_decay, grad_omega, *_sizes(x, weight), parts, dropout, seed),
    )
    return grad_weight.sum(dim=0), grad_log_decay.sum(dim=0), grad_omega.sum(dim=0)


def _sizes(x: Tensor, weight: Tensor) -> tuple[int, ...]:
    """Directions, dim, rows, length, states."""
    return len(weight) // len(x), *x.shape, weight.shape[1]
