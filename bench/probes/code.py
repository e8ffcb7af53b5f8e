"""The code that is measured: the commit of the repository around a user's model, and digests of sources."""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from bench.probes.imports import Unknown, closure
from bench.system.repository import commit_around
from implementations import registry
from implementations.errors import RegistryError

State = tuple[str | None, bool | None]
"""A commit, and whether anything is uncommitted; None if there is no repository."""

WORKER_ROOMS = ("workers", "steps", "probes", "workloads")
DIGITS = 16
"""Hexadecimal digits of a digest: enough to tell versions of one program apart."""
HARNESS = ("implementations", "peers")
"""Packages that come with the harness: their commit is the harness's."""


def measured_commit(implementations: Sequence[str], harness: State) -> State:
    """The state of the repository that the first user's model is imported from; the harness's without one.

    Nothing is imported. A package that is installed, rather than lying in a repository, has no commit.
    """
    tops = (top for top in map(_top_level, implementations) if top is not None and top not in HARNESS)
    top = next(tops, None)
    if top is None:
        return harness
    place = place_of(top)
    if place is None or is_installed(place):
        return None, None
    return commit_around(place.parent, place)


def source_digest(name: str) -> str | None:
    """A digest of an implementation's module and of all that it imports of the same package, or for a single
    file of the same folder.

    Nothing is imported. None if its source is not found.
    """
    try:
        return module_digest(registry.find(name).path.partition(":")[0])
    except RegistryError:
        return None


def module_digest(module: str) -> str | None:
    """A digest of a module and of what it imports, as `source_digest` has it."""
    top = module.partition(".")[0]
    place = place_of(top)
    if place is None:
        return None
    alone = place.is_file() and not is_installed(place)
    try:
        files = closure(module, [place.parent], None if alone else top)
    except Unknown:
        files = set(place.rglob("*.py")) if place.is_dir() else {place}
    return _digest(files, place.parent)


def harness_digest() -> str:
    """Digest of the code that measures: the modules that run in a worker."""
    root = Path(__file__).resolve().parents[1]
    return _digest([file for room in WORKER_ROOMS for file in (root / room).glob("*.py")], root)


def _digest(files: Iterable[Path], root: Path) -> str:
    # Links that lead nowhere are the locks of editors.
    whole = sorted(file for file in files if file.is_file())
    lines = [f"{file.relative_to(root)} {digest_of(file.read_bytes())}" for file in whole]
    return digest_of("\n".join(lines).encode())


def digest_of(content: bytes) -> str:
    """A short digest."""
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def _top_level(name: str) -> str | None:
    try:
        return registry.find(name).path.partition(":")[0].partition(".")[0]
    except RegistryError:
        return None


def is_installed(place: Path) -> bool:
    """Whether a module lies among installed packages."""
    return bool({"site-packages", "dist-packages"} & set(place.parts))


def place_of(module: str) -> Path | None:
    """The module file or package folder that a worker would import: first from where we are."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    try:
        spec = PathFinder.find_spec(module, [os.getcwd(), *filter(None, given), *sys.path])
        spec = spec or importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folder = next(iter(spec.submodule_search_locations or ()), None)
    place = folder or (spec.origin if spec.has_location else None)
    return None if place is None else Path(place).resolve()
