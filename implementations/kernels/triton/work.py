"""Work of each launch, by the kernel's own account: for a cost model, where no kernel runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Work:
    """Work of one launch, in the least that it can be: no line of memory comes twice for want of cache."""

    moves: tuple[Tensor, ...]
    """Tensors that are read or written, each as often as the kernel goes through it."""
    products: int = 0
    """FLOPs of matrix products, of the blocks' margins too; in the type of the first tensor."""
    tf32: int = 0
    """FLOPs of products in TF32, whatever torch's own are in."""
    other: int = 0
    """FLOPs of other arithmetic, if there are many for each byte."""

    @property
    def bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.moves)


Watcher = Callable[[str, Work], None]

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def counted(watcher: Watcher) -> Iterator[None]:
    """Within this context no kernel runs: each launch tells the watcher the kernel's name and its work.

    Results are as they were allocated, so tensors without values go through, too.
    """
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def watcher() -> Watcher | None:
    """The watcher that is told of launches in place of running them; None if they run."""
    return _watcher.get()
