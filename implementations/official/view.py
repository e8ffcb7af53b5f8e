"""Our modules seen under official parameter names and layouts."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Unsupported(ValueError):
    """An official module, option or input that has no counterpart here."""


class OfficialError(ValueError):
    """Official parameters that do not fit our module."""


class OfficialView(nn.Module):
    """Holds our modules and parameters under their official paths, and calls them in the official layout.

    paths: official dotted path to our module or parameter (`""` for a module at the root, whose own
        parameter names are the official ones).
    call: takes the official inputs by keyword, gives `{output name: tensor}`.
    ignored: official buffers without a counterpart, by the last part of their name.
    """

    def __init__(
        self,
        paths: Mapping[str, nn.Module | nn.Parameter],
        call: Callable[..., dict[str, Tensor]],
        ignored: Iterable[str] = ("num_batches_tracked", "_float_tensor"),
    ) -> None:
        super().__init__()
        self._call = call
        self._ignored = frozenset(ignored)
        for path, target in paths.items():
            self._place(path, target)

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Outputs by official name. Raises Unsupported for an input that our module does not take."""
        try:
            inspect.signature(self._call).bind(**inputs)
        except TypeError as error:
            raise Unsupported(f"no counterpart for the inputs {', '.join(inputs)}: {error}") from None
        return self._call(**inputs)

    def load_official(self, params: Mapping[str, Tensor]) -> None:
        """Copy tensors by official name. Every parameter must be there; raises OfficialError otherwise."""
        own = dict(self.named_parameters())
        buffers = dict(self.named_buffers())
        missing = sorted(own.keys() - params.keys())
        if missing:
            raise OfficialError(f"parameters missing from the official ones: {', '.join(missing)}")
        with torch.no_grad():
            for name, value in params.items():
                target = own.get(name, buffers.get(name))
                if target is None:
                    if name.rpartition(".")[2] in self._ignored:
                        continue
                    raise OfficialError(f"official tensor {name!r} has no counterpart here")
                if target.shape != value.shape:
                    raise OfficialError(
                        f"{name}: official shape {tuple(value.shape)}, ours {tuple(target.shape)}"
                    )
                target.copy_(value)

    def _place(self, path: str, target: nn.Module | nn.Parameter) -> None:
        *folders, leaf = path.split(".") if path else [""]
        if not leaf:
            self._adopt(target)
            return
        parent: nn.Module = self
        for folder in folders:
            if folder not in parent._modules:
                parent.add_module(folder, nn.Module())
            child = parent._modules[folder]
            assert child is not None
            parent = child
        if isinstance(target, nn.Parameter):
            parent.register_parameter(leaf, target)
        else:
            parent.add_module(leaf, target)

    def _adopt(self, target: nn.Module | nn.Parameter) -> None:
        assert isinstance(target, nn.Module)
        for name, parameter in target._parameters.items():
            self.register_parameter(name, parameter)
        for name, buffer in target._buffers.items():
            self.register_buffer(name, buffer)
        for name, module in target._modules.items():
            self.add_module(name, module) if module is not None else None


def paths_of(
    module: nn.Module, prefix: str = "", renames: Mapping[str, str] | None = None
) -> dict[str, nn.Module | nn.Parameter]:
    """A module's own parameters and children as paths under a prefix, children renamed to official names."""
    renames = renames or {}
    lead = f"{prefix}." if prefix else ""
    own: dict[str, nn.Module | nn.Parameter] = {
        f"{lead}{renames.get(name, name)}": parameter
        for name, parameter in module._parameters.items()
        if parameter is not None
    }
    children = {f"{lead}{renames.get(name, name)}": child for name, child in module.named_children()}
    return {**own, **children}


def boolean(mask: Tensor | None) -> Tensor | None:
    """A mask as booleans; None for None."""
    return None if mask is None else mask.bool()


def named(table: Mapping[str, Any], name: str) -> Any:
    """The entry of a table. Raises Unsupported if there is none."""
    if name not in table:
        raise Unsupported(f"no counterpart for {name!r} (known: {', '.join(table)})")
    return table[name]
