"""Exact peak of live tensor bytes: every storage that a step makes, from its birth to its death."""

import gc
import weakref
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TensorBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within this context, `peak` is the most bytes that were live in tensor storages at once.

    Storages that were live at entry count from the start; views count once. Scratch memory inside an
    operator (an FFT's work space, a matrix product's packing buffers) is no tensor and is not seen.
    `operators` counts the operators dispatched.
    """

    def __init__(self, kinds: tuple[type[Tensor], ...] = (Tensor, nn.Parameter, nn.Buffer)) -> None:
        """kinds: the types of tensor that count among those that are live at entry."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.kinds = kinds
        self.current = 0
        self.peak = 0
        self.operators = 0
        self._sizes: dict[int, int] = {}

    def __enter__(self) -> Self:
        for tensor in _live_tensors(self.kinds):
            self._count(tensor)
        self.peak = self.current
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operators += 1
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value)
        self.peak = max(self.peak, self.current)
        return result

    def _count(self, tensor: Tensor) -> None:
        if tensor.layout is not torch.strided or tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        size = storage.nbytes()
        known = self._sizes.get(key)
        if known is None:
            weakref.finalize(storage, self._forget, key)
        self._sizes[key] = size
        self.current += size - (known or 0)

    def _forget(self, key: int) -> None:
        self.current -= self._sizes.pop(key, 0)


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the distinct storages behind some tensors."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _live_tensors(kinds: tuple[type[Tensor], ...]) -> Iterator[Tensor]:
    """Every tensor that Python can reach, and the gradients, which it may not hold yet."""
    gc.collect()
    for thing in gc.get_objects():
        if type(thing) in kinds:
            yield thing
            if thing.is_leaf and thing.grad is not None:
                yield thing.grad
