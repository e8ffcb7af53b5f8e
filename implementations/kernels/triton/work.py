"""Work of each launch, by the kernel's own account."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class Work:
    """Work of one launch, in the least that it can be: no line of memory comes twice for want of cache."""

    moves: tuple[Tensor, ...]
    """Tensors that are read or written, each as often as the kernel goes through it."""
    products: int = 0
    """FLOPs of matrix products, of the blocks' margins too; in the type of the first tensor."""
    repeated: int = 0
    """FLOPs of further products in that type, for products that are computed in parts."""
    tf32: int = 0
    """FLOPs of products that are three in TF32 each, whatever torch's own are in."""
    other: int = 0
    """FLOPs of other arithmetic, if there are many for each byte."""

    @property
    def flops(self) -> int:
        """Each product once, however it is computed."""
        return self.products + self.tf32 + self.other

    @property
    def bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.moves)


Watcher = Callable[[str, Work], None]


class _Watch(NamedTuple):
    tell: Watcher
    run: bool


# Not a context variable: autograd launches backward kernels from threads of its own.
_watch: _Watch | None = None


@contextmanager
def counted(watcher: Watcher, *, run: bool = False) -> Iterator[None]:
    """Within this context each launch tells the watcher the kernel's name and its work.

    Unless run, no kernel runs: results are as they were allocated, so tensors without values go through, too.
    """
    global _watch
    before, _watch = _watch, _Watch(watcher, run)
    try:
        yield
    finally:
        _watch = before


def nothing_runs() -> bool:
    """Whether launches are counted in place of running them."""
    return _watch is not None and not _watch.run


def told(name: str, work: Callable[[], Work]) -> bool:
    """Tell a watcher, if there is one, of a launch; whether that is all that is to be done."""
    if _watch is not None:
        _watch.tell(name, work())
    return nothing_runs()
