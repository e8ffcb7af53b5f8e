"""Parts that all peers share: the matched shape, adapters to our frame, and errors of missing packages."""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from torch import Tensor, nn

from implementations.fields import Count
from implementations.models.transformer import FrameConfig
from implementations.task import Task


@dataclass(frozen=True, kw_only=True)
class Shape(FrameConfig):
    """The shape that `hyperparameters: matched` gives to ours in the task `text`.

    Sizes that are not given follow the width `dim`.
    """

    WIDER: ClassVar[int] = 4
    """Width of the feed-forward network over that of the model, where none is given."""

    layers: int = 4
    dim: int = 128
    heads: int = 4
    ffn: Count = 0
    """Width of the feed-forward network; 0 for a multiple of the model's."""
    prenorm: bool = True

    def __post_init__(self) -> None:
        if not self.ffn:
            object.__setattr__(self, "ffn", self.WIDER * self.dim)
        super().__post_init__()


def multiple(shape: Shape) -> int:
    """Width of the feed-forward network as a multiple of the model's, which is all that some libraries take.

    Raises ValueError if it is none.
    """
    if shape.ffn % shape.dim:
        raise ValueError(f"ffn {shape.ffn} is not a multiple of dim {shape.dim}, as this library needs")
    return shape.ffn // shape.dim


class NotInstalled(NotImplementedError):
    """A peer whose package is not installed; the message is one line."""


def package(module: str, distribution: str, extra: str = "peers") -> ModuleType:
    """Import a module of a peer's package.

    Raises NotInstalled, with the command that installs it, and NotImplementedError with the reason if it
    is installed and cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == module.partition(".")[0]:
            install = f"pip install 'seqboat-bench[{extra}]'"
            raise NotInstalled(f"{distribution} is not installed: {install}") from None
        raise NotImplementedError(f"{distribution} cannot be imported here: {error}") from error


def bidirectional(task: Task, peer: str) -> None:
    """Raise NotImplementedError for a language model, which this peer's adapter does not build."""
    if task.causal:
        raise NotImplementedError(f"{peer} is compared as a classifier; its adapter builds no language model")


class Adapter(nn.Module):
    """A peer's module in place of ours: states `(batch, length, dim)` and padding mask to states.

    mask: the keyword of the module's mask, True at real positions; None if it takes none.
    cuda: whether it runs on CUDA devices only; elsewhere forward raises NotImplementedError.
    """

    def __init__(self, module: nn.Module, mask: str | None = None, *, cuda: bool = False) -> None:
        super().__init__()
        self.module = module
        self.mask = mask
        self.cuda_only = cuda

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        if self.cuda_only and x.device.type != "cuda":
            raise NotImplementedError(f"its kernels run on CUDA devices, not on {x.device.type}")
        keywords: dict[str, Any] = {}
        if self.mask is not None and padding_mask is not None:
            keywords[self.mask] = ~padding_mask
        y: Tensor | tuple[Tensor, ...] = self.module(x, **keywords)
        return y[0] if isinstance(y, tuple) else y


class Residual(nn.Module):
    """`x + module(norm(x))`: `(batch, length, dim)`, like the layers of our recurrent models."""

    def __init__(self, norm: nn.Module, module: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.module = module

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        y: Tensor = x + self.module(self.norm(x))
        return y
