"""Imports of a module, read from sources; nothing is run."""

import ast
import functools
from collections.abc import Sequence
from pathlib import Path

_LOADERS = frozenset({"import_module", "__import__"})


class Unknown(Exception):
    """A module's imports can't be read from its source."""


def closure(module: str, folders: Sequence[Path], package: str | None = None) -> set[Path]:
    """Files of a module and of all that it imports and that lies in these folders.

    package: leave out what is not of this top-level package. Raises Unknown.
    """
    files: set[Path] = set()
    waiting = [module]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or (package is not None and name.partition(".")[0] != package):
            continue
        seen.add(name)
        file = file_of(name, folders)
        if name.count("."):
            waiting.append(name.rpartition(".")[0])
        if file is not None and file not in files:
            files.add(file)
            waiting += imports_of(file, name)
    return files


def file_of(module: str, folders: Sequence[Path]) -> Path | None:
    """The source of a module or the `__init__` of a package; None if it is in none of these folders."""
    for folder in folders:
        place = folder.joinpath(*module.split("."))
        for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if file.is_file():
                return file
    return None


def imports_of(file: Path, module: str) -> tuple[str, ...]:
    """Names that a source imports: modules, and what may be one. Raises Unknown for one that is computed."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise Unknown(f"{file}: {error}") from None
    return _imports_of(content, file, module)


@functools.lru_cache(maxsize=4096)
def _imports_of(content: bytes, file: Path, module: str) -> tuple[str, ...]:
    try:
        parsed = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise Unknown(f"{file}: {error}") from None
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = _absolute(node, package)
            found += [start, *(f"{start}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and _called(node) in _LOADERS:
            found.append(_literal(node, file, package))
    return tuple(name for name in found if name)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if node.level == 0:
        return node.module or ""
    parts = package.split(".")
    start = parts[: len(parts) - node.level + 1]
    return ".".join([*start, *([node.module] if node.module else [])])


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _literal(node: ast.Call, file: Path, package: str) -> str:
    first = node.args[0] if node.args else None
    if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        raise Unknown(f"{file}: imports a name that is made when it runs")
    name = first.value
    level = len(name) - len(name.lstrip("."))
    parts = package.split(".")
    return name if level == 0 else ".".join([*parts[: len(parts) - level + 1], name.lstrip(".")])
