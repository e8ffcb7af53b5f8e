"""The models that a change touches, by the modules that they import: read from the sources of both revisions.

Nothing is run. If a source does not tell what it imports, everything in the repository counts.
"""

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.gate.revisions import Revision
from bench.probes.imports import Unknown, closure
from implementations import registry
from implementations.errors import RegistryError

WORDS = frozenset({".md", ".rst", ".txt", ".ipynb", ".png", ".jpg", ".svg", ".pdf", ".pyc"})
"""Suffixes of files that no model reads while it is built or run."""
BUILD_FILES = frozenset(
    {"pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "uv.lock", "pixi.lock"}
)
"""Files that say what is installed: with a setup per revision, they are part of every model."""


def touched(name: str, base: Revision, head: Revision) -> bool:
    """Whether any file that an implementation consists of differs between two revisions."""
    trees = [Tree(side.tree.resolve(), _import_folders(side)) for side in (base, head)]
    try:
        found = registry.find(name)
        files = [_files(tree, found) for tree in trees]
    except (RegistryError, Unknown):
        files = [tree.everything for tree in trees]
    if head.source.python != type(head.source).python:
        files = [{*of, *_build_files(tree)} for of, tree in zip(files, trees, strict=True)]
    return _digests(trees[0], files[0]) != _digests(trees[1], files[1])


def _files(tree: "Tree", implementation: registry.Implementation) -> set[Path]:
    """Files that a model consists of. Raises Unknown."""
    modules = tree.closure(implementation.path.partition(":")[0])
    if not modules:
        raise Unknown(implementation.path)
    cards = tree.root / "implementations" / "cards"
    data = set(tree.data_of(modules))
    others = {file for file in data if file.parent == cards and file.stem != implementation.system}
    return {*modules, *data - others}


def _build_files(tree: "Tree") -> Iterator[Path]:
    return (tree.root / name for name in BUILD_FILES if (tree.root / name).is_file())


def _digests(tree: "Tree", files: Iterable[Path]) -> Mapping[str, str]:
    """Digests of files by their path in the revision."""
    return {str(file.relative_to(tree.root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _import_folders(revision: Revision) -> tuple[Path, ...]:
    """Folders in which modules are looked up; the defaults are the same for installed revisions."""
    root = revision.tree.resolve()
    return revision.source.paths or tuple(folder for folder in (root, root / "src") if folder.is_dir())


@dataclass(frozen=True)
class Tree:
    """The sources of a revision."""

    root: Path
    folders: tuple[Path, ...]

    def closure(self, module: str) -> set[Path]:
        """Files of a module and of all that it imports from the revision; installed packages are left out."""
        return closure(module, self.folders)

    def data_of(self, modules: Iterable[Path]) -> Iterator[Path]:
        """Other files that belong to these modules: beside them, or below in folders without modules."""
        packages = {file.parent for file in modules}
        for file in self._data:
            owner = next((parent for parent in file.parents if parent in self._module_folders), None)
            # Files in other folders below the root belong to no module.
            if owner in packages and (owner != self.root or file.parent == self.root):
                yield file

    @functools.cached_property
    def everything(self) -> set[Path]:
        """All files that any model could consist of."""
        files = (path for path in self.root.rglob("*") if path.is_file() and path.suffix not in WORDS)
        hidden = len(self.root.parts)
        return {path for path in files if not any(part.startswith(".") for part in path.parts[hidden:])}

    @functools.cached_property
    def _data(self) -> list[Path]:
        return [path for path in self.everything if path.suffix != ".py" and path.name not in BUILD_FILES]

    @functools.cached_property
    def _module_folders(self) -> set[Path]:
        return {path.parent for path in self.everything if path.suffix == ".py"}
