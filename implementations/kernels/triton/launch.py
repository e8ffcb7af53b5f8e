"""Parts of every launch: the precision of sums, block sizes, seeds, and the tensors' own device."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.runtime.errors import OutOfResources

from implementations.kernels.precision import is_tf32_allowed
from implementations.kernels.triton.work import Work, told

_FITTING: dict[Hashable, int] = {}

ACCUMULATORS = {torch.float32: tl.float32, torch.float64: tl.float64}


def accumulator(*tensors: Tensor) -> torch.dtype:
    """Precision of sums over these tensors: float32, or float64 if one of them is."""
    wide = any(tensor.dtype == torch.float64 for tensor in tensors)
    return torch.float64 if wide else torch.float32


def launch(
    kernel: Any, grid: tuple[int, ...], *arguments: Any, work: Callable[[], Work], **options: Any
) -> None:
    """Run a kernel on the device of its first tensor; float products and sums may fuse.

    work: what the kernel does, for who counts launches.
    """
    if told(kernel.__name__, work):
        return
    first = arguments[0]
    with torch.cuda.device_of(first[0] if isinstance(first, tuple) else first):  # type: ignore[no-untyped-call]
        kernel[grid](*arguments, enable_fp_fusion=True, **options)


def launch_what_fits(key: Hashable, attempts: Sequence[Callable[[], None]]) -> None:
    """Run the first of several forms of one launch that the device has the shared memory for.

    A kernel that asks for too much is refused before it runs, so a failed attempt has written nothing. The
    form that fitted is remembered under the key. Raises triton's OutOfResources if no form fits.
    """
    for number in range(_FITTING.get(key, 0), len(attempts)):
        try:
            attempts[number]()
        except OutOfResources:
            if number == len(attempts) - 1:
                raise
        else:
            _FITTING[key] = number
            return


def blocks(count: int, size: int) -> int:
    """Number of blocks of a size that cover a count."""
    return -(-count // size)


def power_of_two(count: int, least: int = 1) -> int:
    """The smallest power of two that is not below either."""
    return max(least, 1 << max(0, count - 1).bit_length())


def row_block(dim: int, elements: int = 2048) -> tuple[int, int]:
    """Rows and channels of a tile that holds whole rows of `dim` channels and about that many elements."""
    channels = power_of_two(dim, least=16)
    return max(1, elements // channels), channels


def draw_seed(probability: float, like: Tensor) -> Tensor:
    """A seed for dropout, `(1,)` int64, from the generator of like's device: nothing waits for it.

    Without dropout no number is drawn, and like is returned in its place.
    """
    if probability == 0.0:
        return like
    return torch.randint(2**31 - 1, (1,), device=like.device)


def dot_precision() -> str:
    """Precision of products of float32 matrices: TF32 where torch's own are in it, else three TF32 products.

    Those keep nearly all digits. "ieee", on plain units, where a GPU has no others.
    """
    if is_tf32_allowed():
        return "tf32"
    return "tf32x3" if not torch.cuda.is_available() or has_matrix_units() else "ieee"


def has_matrix_units() -> bool:
    """Whether the current GPU multiplies TF32: from compute capability 8.0."""
    return torch.cuda.get_device_capability() >= (8, 0)
