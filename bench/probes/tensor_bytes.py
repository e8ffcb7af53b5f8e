"""Exact peak of live tensor bytes: every storage that a step holds or makes, as long as it lives."""

import weakref
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

COMPILED = "the model is compiled, and what compiled code keeps is not seen"


class TensorBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within this context, `peak` is the most bytes that were live in tensor storages at once.

    `before` are the bytes that were live at entry: the tensors that were named, and all others that an
    operator then reads. Views count once; a sparse tensor counts as its indices and values, a jagged one as
    its values and offsets. Scratch memory inside an operator (an FFT's work space, a matrix product's
    packing buffers) is not a tensor and is not seen, nor is what compiled code makes: see `is_compiled`.
    `operators` counts the operators dispatched.
    """

    def __init__(self, live: Iterable[Tensor] = ()) -> None:
        """live: tensors that are there at entry, whether or not an operator reads them."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.before = 0
        self.current = 0
        self.peak = 0
        self.operators = 0
        self._live = live
        self._sizes: dict[int, int] = {}

    @property
    def growth(self) -> int:
        """Bytes that are live now and were not at entry."""
        return self.current - self.before

    def __enter__(self) -> Self:
        for tensor in self._live:
            self._was_there(tensor)
        self._live = ()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(map(_is_wrapper, types)):
            # It is asked next, and comes back with the plain tensors that it holds.
            return NotImplemented
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):
                self._was_there(value)
        result = func(*args, **(kwargs or {}))
        self.operators += 1
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value)
        self.peak = max(self.peak, self.current)
        return result

    def _was_there(self, tensor: Tensor) -> None:
        """Count a tensor that no operator has made since entry: it was live all the time."""
        for part in parts_of(tensor):
            if part.untyped_storage()._cdata not in self._sizes:
                size = self._count_storage(part)
                self.before += size
                self.peak += size

    def _count(self, tensor: Tensor) -> None:
        for part in parts_of(tensor):
            self._count_storage(part)

    def _count_storage(self, tensor: Tensor) -> int:
        """Take note of a storage, which may be a known one that has grown. Returns the bytes that are new."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._sizes.get(key)
        if known is None:
            weakref.finalize(storage, self._forget, key)
        size = storage.nbytes()
        self._sizes[key] = size
        new = size - (known or 0)
        self.current += new
        return new

    def _forget(self, key: int) -> None:
        self.current -= self._sizes.pop(key, 0)


def parts_of(tensor: Tensor) -> Iterator[Tensor]:
    """The dense tensors that hold a tensor's bytes: itself, or the parts of a sparse or wrapped one."""
    if tensor.device.type == "meta":
        return
    if is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from parts_of(getattr(tensor, name))
    elif tensor.layout is torch.strided:
        yield tensor
    elif tensor.layout is torch.sparse_coo:
        yield from (tensor._indices(), tensor._values())
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        yield from (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        yield from (tensor.ccol_indices(), tensor.row_indices(), tensor.values())


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the distinct storages behind some tensors."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def is_compiled() -> bool:
    """Whether torch.compile has made a graph in this process. Its code runs only if nothing watches: under
    a TensorBytes its plain form runs instead, and takes other memory."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"] > 0


def _is_wrapper(kind: type) -> bool:
    return (
        kind is not Tensor and hasattr(kind, "__tensor_flatten__") and hasattr(kind, "__tensor_unflatten__")
    )
