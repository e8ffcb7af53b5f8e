"""The user's own modules in the current folder: found after all others.

If the folder came first, as with `python -m`, its `random.py` or `types.py` would replace Python's own, and
its `bench.py` this package.
"""

import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from implementations.errors import RegistryError
from implementations.registry import Implementation

if TYPE_CHECKING:
    from implementations.registry import Build

HARNESS = Path(__file__).resolve().parents[2]


def look_here() -> None:
    """Let modules of the current folder be imported by this process."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)


def load(implementation: Implementation) -> "Build":
    """The function that builds a model.

    Raises RegistryError if it can't be imported, or if another module has the name of a file of the
    current folder.
    """
    failure = None
    try:
        build = implementation.load()
    except RegistryError as error:
        failure = error
    # An implementation known by a name is installed, whatever lies in the current folder.
    if implementation.system == implementation.path:
        refuse_collision(implementation.path)
    if failure is not None:
        raise failure
    return build


def load_all(found: Iterable[Implementation]) -> None:
    """Import models. Raises RegistryError with whatever can't be imported, each with its reason."""
    errors = []
    for implementation in found:
        try:
            load(implementation)
        except RegistryError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise RegistryError("; ".join(map(str, errors))) from ExceptionGroup("imports", errors)


def refuse_collision(path: str) -> None:
    """Raise RegistryError if the current folder has such a module, and another one was imported."""
    if os.getcwd() not in sys.path:
        return
    folder = Path.cwd()
    names = path.partition(":")[0].split(".")
    meant = _module_in(folder, names)
    found = _imported(names)
    if meant is None or found is None:
        return
    place = _file_of(found, names)
    if place is not None and (not _comes_first(place) or _is_same(meant, place)):
        return
    raise RegistryError(
        f"{path}: {meant.relative_to(folder)} in this folder has the name of {place or 'a built-in module'}, "
        "which comes first: rename yours, or put this folder first with PYTHONPATH=."
    )


def _imported(names: list[str]) -> ModuleType | None:
    """The module itself, or the package in which it was looked for."""
    return sys.modules.get(".".join(names)) or sys.modules.get(names[0])


def _file_of(module: ModuleType, names: list[str]) -> Path | None:
    """The file of the module of these names, or else that of its package; None for a built-in one."""
    file = getattr(module, "__file__", None)
    if file is None:
        return None
    if module.__name__ == ".".join(names):
        return Path(file)
    return _module_in(Path(file).parent, names[1:]) or Path(file)


def _module_in(folder: Path, names: list[str]) -> Path | None:
    module = folder.joinpath(*names)
    return next((p for p in (module.with_suffix(".py"), module / "__init__.py") if p.is_file()), None)


def _comes_first(file: Path) -> bool:
    """Whether a module is Python's, an installed package's or this package's own."""
    folders = [*map(Path, set(sysconfig.get_paths().values())), HARNESS]
    return any(file.resolve().is_relative_to(folder.resolve()) for folder in folders)


def _is_same(one: Path, other: Path) -> bool:
    return one.samefile(other) or one.read_bytes() == other.read_bytes()
