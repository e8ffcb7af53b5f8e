"""Triton's interpreter without what it does over and over, or for nothing: kernels run four times as fast.

All that a kernel computes stays as it was.
"""

import dataclasses
import functools
import inspect
import sys
from typing import Any

REPLACED = ("_get_np_dtype", "_LangPatchScope", "_patch_attr", "_patch_builtin", "_patch_lang")


def install() -> None:
    """Once triton is imported, if its kernels are interpreted."""
    interpreter = sys.modules.get("triton.runtime.interpreter")
    if interpreter is None or isinstance(interpreter._patch_lang, Patches):
        return
    if not interpreter.triton.knobs.runtime.interpret:
        return
    if not all(hasattr(interpreter, name) for name in REPLACED):
        return  # Another version's, which is slow.
    # Whether integers overflow is computed, and told only with another option, which is off.
    builder = interpreter.interpreter_builder
    assert not builder.options.debug
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)
    # A dictionary of twenty types is made for each look-up.
    interpreter._get_np_dtype = _by_name(interpreter._get_np_dtype)
    interpreter._patch_lang = Patches(interpreter)
    interpreter._patch_builtin = _patch_builtin
    _keep_shapes(interpreter.tl.core)
    semantic = interpreter.interpreter_semantic
    semantic.broadcast_impl_value = _unless_alike(semantic.broadcast_impl_value)


def _unless_alike(broadcast: Any) -> Any:
    """Tensors of one shape stay as they are."""

    def to_common_shape(left: Any, right: Any) -> Any:
        one, other = left.type, right.type
        if one.is_block() and other.is_block() and one.shape is other.shape:
            return left, right
        return broadcast(left, right)

    return to_common_shape


def _keep_shapes(core: Any) -> None:
    """Types and tensors of a shape that was there before take what was derived from it then."""
    of_types: dict[Any, tuple[Any, ...]] = {}
    of_tensors: dict[Any, tuple[Any, ...]] = {}
    shapes: dict[Any, Any] = {}
    make_type, make_tensor = core.block_type.__init__, core.tensor.__init__

    def block_type(self: Any, element_ty: Any, shape: Any) -> None:
        key = (element_ty.name, *shape)
        if key in of_types:
            self.element_ty = element_ty
            self.shape, self.numel, self.name = of_types[key]
        else:
            make_type(self, element_ty, shape)
            self.shape = shapes.setdefault(tuple(self.shape), self.shape)
            of_types[key] = self.shape, self.numel, self.name

    def tensor(self: Any, handle: Any, type: Any) -> None:
        key = tuple(type.shape) if type.is_block() else ()
        if key in of_tensors:
            self.handle, self.type, self.dtype = handle, type, type.scalar
            self.shape, self.numel = of_tensors[key]
        else:
            make_tensor(self, handle, type)
            of_tensors[key] = self.shape, self.numel

    core.block_type.__init__, core.tensor.__init__ = block_type, tensor


def _by_name(look_up: Any) -> Any:
    """A function of a type, whose result depends on that of the elements alone."""
    found: dict[str, Any] = {}

    def looked_up(of: Any) -> Any:
        name = of.scalar.name
        if name not in found:
            found[name] = look_up(of)
        return found[name]

    return looked_up


class Patches:
    """The language's functions are replaced once in a launch, not again by each function that is called."""

    def __init__(self, interpreter: Any) -> None:
        self.interpreter = interpreter
        self.patch = interpreter._patch_lang
        self.scope = interpreter._LangPatchScope
        self.done: set[int] = set()

    def __call__(self, function: Any) -> Any:
        visible = self.visible(function)
        if visible <= self.done:
            return self.scope()
        self.done |= visible
        scope = self.patch(function)
        restore = scope.restore

        def restored() -> None:
            self.done.clear()
            restore()

        scope.restore = restored
        return scope

    @functools.cache  # noqa: B019 - there is one, as long as the process
    def visible(self, function: Any) -> frozenset[int]:
        language = self.interpreter.tl
        values = function.__globals__.values()
        return frozenset(id(value) for value in values if value is language or value is language.core)


@functools.cache
def _names_of_builtins(package: Any) -> list[str]:
    from triton.language import core

    return [name for name, member in inspect.getmembers(package) if core.is_builtin(member)]


def _patch_builtin(package: Any, builder: Any, scope: Any) -> None:
    from triton.language import core
    from triton.runtime.interpreter import _patch_attr

    for name in _names_of_builtins(package):
        member = getattr(package, name)
        if core.is_builtin(member):
            _patch_attr(package, name, member, builder, scope)
